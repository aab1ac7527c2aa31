"""Imports, attributes and calls in one file, each asked whether Umbel has it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from umbel.compat.scan.findings import Finding, Level
from umbel.compat.scan.knowledge import (
    Verdict,
    check_app_attribute,
    check_module,
    check_name,
    check_send_option,
    check_task_option,
    is_module,
)
from umbel.compat.scan.references import APPLICATIONS, Application, Module, Name, Scope, TaskObject, is_ours
from umbel.compat.scan.settings import Assigned, assigned_by, check_setting

_TASK_CLASSES = {("celery", "Task"), ("celery.app.task", "Task")}
_OWN_ARGUMENTS = {
    "main", "loader", "backend", "amqp", "events", "log", "control", "set_as_current", "tasks", "broker", "include",
    "changes", "config_source", "fixups", "task_cls", "autofinalize", "namespace", "strict_typing",
    "config_source_silent", "backend_cls", "loader_cls",
}  # fmt: skip
_PARTS = ("amqp", "backend_cls", "control", "events", "log")
_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
_GUARDED = "the except branch is taken: "


class Checker(ast.NodeVisitor):
    """Collects the findings of a file. ``own``: attributes that the project itself gives its applications."""

    def __init__(self, file: str, scope: Scope, own: Collection[str]) -> None:
        self.file = file
        self.scope = scope
        self.own = own
        self.findings: set[Finding] = set()
        self._guarded = 0

    def say(self, line: int, what: str, verdict: Verdict) -> None:
        if verdict is None:
            return
        level, why = verdict
        if self._guarded and level is Level.MISSING:
            level, why = Level.DIFFERS, _GUARDED + why
        self.findings.add(Finding(self.file, line, level, what, why))

    # -- imports --

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if is_ours(alias.name):
                self.say(node.lineno, alias.name, check_module(alias.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self.scope.absolute(node)
        if not is_ours(module):
            return
        verdict = check_module(module)
        if verdict is not None:
            names = ", ".join(alias.name for alias in node.names)
            self.say(node.lineno, f"{module} ({names})", verdict)
            return
        for alias in node.names:
            if alias.name != "*":
                self._name(node.lineno, module, alias.name)

    def _name(self, line: int, module: str, name: str) -> None:
        full = f"{module}.{name}"
        self.say(line, full, check_module(full) if is_module(full) else check_name(module, name))

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)
            return
        for other in node.orelse:
            self.visit(other)

    def visit_Try(self, node: ast.Try) -> None:
        guarded = any(_IMPORT_ERRORS & set(_caught(handler)) for handler in node.handlers)
        self._guarded += guarded
        for each in node.body:
            self.visit(each)
        self._guarded -= guarded
        for each in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(each)

    # -- attributes --

    def visit_Attribute(self, node: ast.Attribute) -> None:
        base = self.scope.resolve(node.value)
        if isinstance(base, Module):
            if check_module(base.name) is None:
                self._name(node.lineno, base.name, node.attr)
        elif isinstance(base, Application) and isinstance(node.ctx, ast.Load):
            path = (*base.path, node.attr)
            if path[0] not in self.own and (len(path) == 1 or check_app_attribute(path[:1]) is None):
                self.say(node.lineno, f"app.{'.'.join(path)}", check_app_attribute(path))
        self.generic_visit(node)

    # -- calls, decorators, classes --

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = self.scope.resolve(node.func)
        if self.scope.makes_task(node):
            self._options(node.keywords)
        elif isinstance(function, Name) and (function.module, function.name) in APPLICATIONS:
            self._application(node)
        elif isinstance(function, Application) and function.path == ("conf", "update"):
            self.settings(assigned_by(node))
        elif isinstance(function, Application) and function.path == ("send_task",):
            self._send(node, {"name"})
        elif self._is_task_method(node.func, "apply_async"):
            self._send(node, set())

    def _is_task_method(self, node: ast.expr, name: str) -> bool:
        if not isinstance(node, ast.Attribute) or node.attr != name:
            return False
        return isinstance(self.scope.resolve(node.value), TaskObject)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bases = [self.scope.resolve(base) for base in node.bases]
        if any(isinstance(base, Name) and (base.module, base.name) in _TASK_CLASSES for base in bases):
            for each in node.body:
                if isinstance(each, ast.Assign):
                    for target in each.targets:
                        if isinstance(target, ast.Name):
                            self.say(each.lineno, f"Task.{target.id}", check_task_option(target.id))
        self.generic_visit(node)

    def _options(self, keywords: list[ast.keyword]) -> None:
        for keyword in keywords:
            if keyword.arg is not None:
                self.say(keyword.value.lineno, f"task option {keyword.arg}", check_task_option(keyword.arg))

    def _send(self, node: ast.Call, own: set[str]) -> None:
        names = {keyword.arg for keyword in node.keywords}
        if None in names or "stamped_headers" in names:
            return
        for name in sorted(each for each in names - own if each is not None):
            self.say(node.lineno, f"apply_async({name}=…)", check_send_option(name))

    def _application(self, node: ast.Call) -> None:
        self.settings(given for given in assigned_by(node) if given.name not in _OWN_ARGUMENTS)
        for keyword in node.keywords:
            given = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is None)
            if keyword.arg in _PARTS and given:
                why = "Umbel does not let a project replace this part of the application"
                self.say(keyword.value.lineno, f"Celery({keyword.arg}=…)", (Level.MISSING, why))
            url = {"broker": "broker_url", "backend": "result_backend"}.get(keyword.arg or "")
            if url is not None:
                self.settings([Assigned(url, keyword.value, keyword.value.lineno)])

    # -- settings --

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            name = self._conf_name(target)
            if name is not None:
                self.settings([Assigned(name, node.value, node.lineno)])
        self.generic_visit(node)

    def _conf_name(self, target: ast.expr) -> str | None:
        """The setting that an assignment to ``app.conf.name`` or ``app.conf["name"]`` gives a value."""
        if isinstance(target, ast.Attribute) and self._is_conf(target.value):
            return target.attr
        if isinstance(target, ast.Subscript) and self._is_conf(target.value):
            key = target.slice
            return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None
        return None

    def _is_conf(self, node: ast.expr) -> bool:
        return self.scope.resolve(node) == Application(("conf",))

    def settings(self, given: Iterator[Assigned] | list[Assigned], prefix: str = "", *, certain: bool = True) -> None:
        """Check settings that were found."""
        for each in given:
            self.say(each.line, f"setting {each.name}", check_setting(each, prefix, certain=certain))


def _caught(handler: ast.ExceptHandler) -> Iterator[str]:
    kinds = handler.type
    if kinds is None:
        yield "Exception"
        return
    for kind in kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]:
        if isinstance(kind, ast.Name):
            yield kind.id
