"""The files of a project, and what they give each other: applications and tasks that others import, configuration."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from umbel.compat.scan.checks import Checker
from umbel.compat.scan.findings import Finding, Level
from umbel.compat.scan.references import APPLICATIONS, Application, Foreign, Name, Reference, Scope, TaskObject
from umbel.compat.scan.settings import Assigned, assigned_in
from umbel.errors import ConfigurationError

_SKIPPED = {"__pycache__", "node_modules", "site-packages", "dist-packages", "build", "dist"}
_ROUNDS = 4
"""How often names are followed from file to file."""

_DJANGO = ("django.conf:settings", "django.conf.settings")
_DEFAULT_CONFIG = "celeryconfig"


class Report(Struct):
    """``files``: how many were read."""

    findings: list[Finding]
    files: int

    def count(self, level: Level) -> int:
        return sum(each.level is level for each in self.findings)


class _File(Struct):
    path: str
    module: str
    tree: ast.Module
    scope: Scope


def scan(path: Path) -> Report:
    """What the Python files at and below ``path`` use that differs. Raises ConfigurationError when there are none."""
    files, findings = _read(path)
    if not files and not findings:
        raise ConfigurationError(f"{path} has no Python files")
    project = _Project(files)
    project.bind()
    for file in files:
        checker = Checker(file.path, file.scope, project.own_attributes)
        checker.visit(file.tree)
        findings += checker.findings
    for file, given, prefix, certain in project.configuration():
        checker = Checker(file.path, file.scope, ())
        checker.settings(given, prefix, certain=certain)
        findings += checker.findings
    return Report(sorted(set(findings)), len(files))


def _read(path: Path) -> tuple[list[_File], list[Finding]]:
    files: list[_File] = []
    unreadable: list[Finding] = []
    root = _import_root(path)
    for each in sorted(_python_files(path)):
        try:
            tree = ast.parse(each.read_bytes(), str(each))
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            unreadable.append(Finding(str(each), line, Level.UNREADABLE, each.name, str(error)))
            continue
        parts = each.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        files.append(_File(str(each), module, tree, Scope(module, is_package)))
    return files, unreadable


def _import_root(path: Path) -> Path:
    """The nearest directory above that is no package."""
    directory = path if path.is_dir() else path.parent
    while (directory / "__init__.py").exists() and directory != directory.parent:
        directory = directory.parent
    return directory


def _python_files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise ConfigurationError(f"there is no {path}")
    for each in path.iterdir():
        if each.is_dir():
            if each.name not in _SKIPPED and not each.name.startswith(".") and not (each / "pyvenv.cfg").exists():
                yield from _python_files(each)
        elif each.suffix == ".py":
            yield each


class _Project:
    def __init__(self, files: list[_File]) -> None:
        self.files = files
        self.own_attributes: set[str] = set()

    def bind(self) -> None:
        """Follow names from file to file."""
        for file in self.files:
            file.scope.read_imports(file.tree)
        for _ in range(_ROUNDS):
            for file in self.files:
                file.scope.read_definitions(file.tree)
            for file in self.files:
                self._link(file)
        for file in self.files:
            self.own_attributes |= set(_given_to_apps(file))

    def _link(self, file: _File) -> None:
        for name, reference in list(file.scope.names.items()):
            if isinstance(reference, Foreign):
                found = self._target(reference)
                if found is not None:
                    file.scope.names[name] = found

    def _target(self, reference: Foreign) -> Reference | None:
        source = self.find(reference.module)
        found = source.scope.names.get(reference.name) if source is not None else None
        return found if isinstance(found, (Application, TaskObject)) else None

    def find(self, module: str) -> _File | None:
        """The file of a module, also where the project's root is a directory further down."""
        exact = next((file for file in self.files if file.module == module), None)
        return exact or next((file for file in self.files if file.module.endswith(f".{module}")), None)

    def configuration(self) -> Iterator[tuple[_File, list[Assigned], str, bool]]:
        """Modules and classes that settings are read from: file, what they set, prefix, and whether all is meant."""
        seen: set[tuple[str, str]] = set()
        for file, call in self._configuring():
            namespace = _text(_argument(call, "namespace", None)) or ""
            prefix = f"{namespace.rstrip('_')}_" if namespace else ""
            for source, given in self._sources(file, call, prefix):
                if (source.path, prefix) not in seen:
                    seen.add((source.path, prefix))
                    yield source, given, prefix, bool(prefix)
        default = self.find(_DEFAULT_CONFIG)
        if default is not None and (default.path, "") not in seen:
            yield default, list(assigned_in(default.tree.body)), "", False

    def _configuring(self) -> Iterator[tuple[_File, ast.Call]]:
        for file in self.files:
            for node in ast.walk(file.tree):
                if not isinstance(node, ast.Call):
                    continue
                function = file.scope.resolve(node.func)
                makes = isinstance(function, Name) and (function.module, function.name) in APPLICATIONS
                if makes or function == Application(("config_from_object",)):
                    yield file, node

    def _sources(self, file: _File, call: ast.Call, prefix: str) -> Iterator[tuple[_File, list[Assigned]]]:
        reads = isinstance(file.scope.resolve(call.func), Application)
        source = _argument(call, "obj" if reads else "config_source", 0 if reads else None)
        name = _text(source)
        if name in _DJANGO:
            for each in self.files:
                if "settings" in each.module.split(".")[-2:]:
                    yield each, [given for given in assigned_in(each.tree.body) if given.name.startswith(prefix)]
        elif name is not None:
            yield from self._of_name(name, prefix)
        elif isinstance(source, ast.Name):
            bound = file.scope.names.get(source.id)
            if isinstance(bound, Foreign):
                yield from self._of_name(f"{bound.module}.{bound.name}".rstrip("."), prefix)
            else:
                yield from _of_class(file, source.id, prefix)

    def _of_name(self, name: str, prefix: str) -> Iterator[tuple[_File, list[Assigned]]]:
        module, _, attribute = name.partition(":")
        found = self.find(module)
        if found is None and not attribute:
            module, _, attribute = module.rpartition(".")
            found = self.find(module)
        if found is None:
            return
        if attribute:
            yield from _of_class(found, attribute, prefix)
        else:
            yield found, _with_prefix(assigned_in(found.tree.body), prefix)


def _of_class(file: _File, name: str, prefix: str) -> Iterator[tuple[_File, list[Assigned]]]:
    for node in file.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield file, _with_prefix(assigned_in(node.body), prefix)


def _with_prefix(given: Iterator[Assigned], prefix: str) -> list[Assigned]:
    return [each for each in given if each.name.startswith(prefix)]


def _given_to_apps(file: _File) -> Iterator[str]:
    """Attributes that the project sets on applications."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            base = file.scope.resolve(node.value)
            if isinstance(base, Application) and not base.path:
                yield node.attr


def _argument(call: ast.Call, name: str, position: int | None) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position is not None and len(call.args) > position:
        return call.args[position]
    return None


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
