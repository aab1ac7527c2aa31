"""What the names in a file stand for: modules and names of Celery, applications, tasks, and names of other files."""

from __future__ import annotations

import ast

from msgspec import Struct

from umbel.compat.scan.knowledge import ROOTS, is_module


class Module(Struct, frozen=True):
    """A module of celery, kombu or billiard."""

    name: str


class Name(Struct, frozen=True):
    """A name in such a module."""

    module: str
    name: str


class Application(Struct, frozen=True):
    """An application, or with a ``path`` what its attributes are: ``("control", "inspect")``."""

    path: tuple[str, ...] = ()


class TaskObject(Struct, frozen=True):
    """A task of the project."""


class Foreign(Struct, frozen=True):
    """A name of another file of the project, or of another package."""

    module: str
    name: str


Reference = Module | Name | Application | TaskObject | Foreign

APPLICATIONS = {("celery", "Celery"), ("celery.app", "Celery"), ("celery.app.base", "Celery")}
CURRENT = {
    ("celery", "current_app"),
    ("celery.app", "default_app"),
    ("celery._state", "current_app"),
}
SHARED = {("celery", "shared_task"), ("celery.app", "shared_task"), ("celery.app.base", "shared_task")}


def is_ours(module: str) -> bool:
    """Whether this is a module that the mirror stands for."""
    return module.partition(".")[0] in ROOTS


def attribute_of(base: Reference, name: str) -> Reference | None:
    """What ``base.name`` is."""
    match base:
        case Module():
            inner = f"{base.name}.{name}"
            return Module(inner) if is_module(inner) else named(base.name, name)
        case Application():
            return base if name == "_get_current_object" else Application((*base.path, name))
        case Foreign(name=""):
            return Foreign(base.module, name)
        case _:
            return None


def named(module: str, name: str) -> Reference:
    """What ``from module import name`` gives, of a module of Celery."""
    return Application() if (module, name) in CURRENT else Name(module, name)


class Scope:
    """The names of a file. What is bound inside functions is taken for the whole file: that suffices here."""

    def __init__(self, module: str, is_package: bool) -> None:
        self.module = module
        self._package = module if is_package else module.rpartition(".")[0]
        self.names: dict[str, Reference] = {}

    def read_imports(self, tree: ast.Module) -> None:
        """Bind what the file imports."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self._import(node)
            elif isinstance(node, ast.ImportFrom):
                self._import_from(node)

    def read_definitions(self, tree: ast.Module) -> None:
        """Bind the applications and tasks that the file makes, of what is bound so far."""
        for node in ast.walk(tree):
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                self._assign(node)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and self.task_decorator(node) is not None:
                self.names[node.name] = TaskObject()

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            target = alias.name if alias.asname else alias.name.partition(".")[0]
            self.names[alias.asname or target] = Module(target) if is_ours(target) else Foreign(target, "")

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = self.absolute(node)
        for alias in node.names:
            if is_ours(module):
                self.names[alias.asname or alias.name] = attribute_of(Module(module), alias.name) or Module(module)
            else:
                self.names[alias.asname or alias.name] = Foreign(module, alias.name)

    def absolute(self, node: ast.ImportFrom) -> str:
        """The module that a statement imports from."""
        if not node.level:
            return node.module or ""
        parts = self._package.split(".") if self._package else []
        kept = parts[: len(parts) - node.level + 1]
        return ".".join([*kept, *([node.module] if node.module else [])])

    def _assign(self, node: ast.Assign | ast.AnnAssign) -> None:
        value = node.value
        found = self.resolve(value) if value is not None else None
        if not isinstance(found, (Application, TaskObject)):
            return
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                self.names[target.id] = found

    def resolve(self, node: ast.expr) -> Reference | None:
        """What an expression stands for; None where that cannot be told."""
        match node:
            case ast.Name():
                return self.names.get(node.id)
            case ast.Attribute():
                base = self.resolve(node.value)
                return attribute_of(base, node.attr) if base is not None else None
            case ast.Call():
                return self._called(self.resolve(node.func))
            case _:
                return None

    def _called(self, function: Reference | None) -> Reference | None:
        match function:
            case Name() if (function.module, function.name) in APPLICATIONS:
                return Application()
            case Application(path=("register_task",)):
                return TaskObject()
            case Application(path=()):
                return function
            case _:
                return None

    def task_decorator(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.expr | None:
        """The decorator that makes a task of a function."""
        return next((each for each in node.decorator_list if self.makes_task(each)), None)

    def makes_task(self, node: ast.expr) -> bool:
        """Whether this is ``app.task``, ``shared_task`` or a call of one."""
        found = self.resolve(node.func if isinstance(node, ast.Call) else node)
        match found:
            case Name():
                return (found.module, found.name) in SHARED
            case Application(path=("task",)):
                return True
            case _:
                return False
