"""Imports point one way: each part of umbel knows only those below it.

Imports inside functions count as well. What is only for type checkers does not, and a driver that is named by an
entry point is not imported by whoever opens it.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = PROJECT / "src" / "umbel"

FOUNDATION, DRIVERS, APPLICATION, WORKER, TOP = range(5)

LAYERS: Mapping[str, int] = {
    # They know nobody but each other.
    "errors": FOUNDATION,
    "message": FOUNDATION,
    "queues": FOUNDATION,
    "clock": FOUNDATION,
    "urls": FOUNDATION,
    "states": FOUNDATION,
    "codecs": FOUNDATION,
    "config": FOUNDATION,
    # Contracts and drivers of the systems outside.
    "brokers": DRIVERS,
    "backends": DRIVERS,
    "drivers": DRIVERS,
    "revocations": DRIVERS,
    # The user's side; of the drivers only the contracts are known here.
    "app": APPLICATION,
    "task": APPLICATION,
    "request": APPLICATION,
    "result": APPLICATION,
    "canvas": APPLICATION,
    # What keeps limits in a system: found by name, over the connections of its driver.
    "limits.buckets": DRIVERS,
    "limits.rates_memory": DRIVERS,
    "limits.rates_redis": DRIVERS,
    "limits.rates_sql": DRIVERS,
    # What runs tasks.
    "worker": WORKER,
    "executors": WORKER,
    # What people and other software see.
    "cli": TOP,
    "__main__": TOP,
    "monitor": TOP,
    "integrations": TOP,
    "compat": TOP,
    "testing": TOP,
}
"""The layer of each module or package in src/umbel; what is not named here, nor its package, belongs to APPLICATION."""

CONTRACTS = ("brokers", "backends", "brokers.base", "backends.base")
"""All that layers between the drivers and the top may import of the driver packages."""

STORE_OF_LIMITS = re.compile(r"limits\.\w+_(memory|redis|sql)")
"""What keeps limits in a system uses the connections of its driver; it is found by name, as a driver is."""


@dataclass(frozen=True)
class Import:
    """One import in the tree, of `target` in `module`; both dotted, below umbel."""

    module: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"umbel.{self.module} imports umbel.{self.target} (line {self.line})"


def layer(module: str) -> int:
    return LAYERS.get(module, LAYERS.get(module.partition(".")[0], APPLICATION))


def broken_rule(found: Import) -> str | None:
    """The rule that an import breaks, in words, or None."""
    importer, imported = layer(found.module), layer(found.target)
    if not found.target:
        return None if importer == TOP else "the package umbel itself is for users and for what is on top"
    if imported > importer:
        return "imports point from the top of the design's list to its bottom"
    package = found.target.partition(".")[0]
    if STORE_OF_LIMITS.fullmatch(found.module):
        return None
    if importer in (APPLICATION, WORKER) and package in ("brokers", "backends") and found.target not in CONTRACTS:
        return "a driver is found through its entry point; only the contracts may be imported"
    return None


def imports_in(root: Path) -> Iterator[Import]:
    """Every import of one module of the package at `root` by another, from all files but its own `__init__`."""
    modules = {dotted(path, root): path for path in sorted(root.rglob("*.py"))}
    for module, path in modules.items():
        if not module:
            continue
        tree = ast.parse(path.read_text(), str(path))
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in executed(tree):
            for target in targets(node, package, root.name, modules):
                yield Import(module, target, node.lineno)


def dotted(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def executed(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom | ast.Call]:
    """The import statements and calls below `tree`, without those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from executed(ast.Module([other], []))
            continue
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
            yield node
        yield from executed(node)


def targets(
    node: ast.Import | ast.ImportFrom | ast.Call, package: str, name: str, modules: Mapping[str, Path]
) -> list[str]:
    """What a statement imports of the package `name`; names that are no modules count for the module they are in."""
    found: list[str] = []
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = [name, *(package.split(".") if package else [])]
            kept = parents[: len(parents) - node.level + 1]
            base = ".".join([*kept, *([node.module] if node.module else [])])
        members = [f"{base}.{alias.name}" for alias in node.names]
        found = [member if member.removeprefix(f"{name}.") in modules else base for member in members]
    elif ast.unparse(node.func).endswith("import_module") and node.args and isinstance(node.args[0], ast.Constant):
        found = [str(node.args[0].value)]
    inside = [full for full in dict.fromkeys(found) if full == name or full.startswith(f"{name}.")]
    return [full[len(name) + 1 :] for full in inside]


def test_imports_point_one_way() -> None:
    broken = [f"{found}: {rule}" for found in imports_in(SOURCE) if (rule := broken_rule(found))]
    assert not broken, "\n" + "\n".join(broken)


def test_drivers_of_the_project_are_named_by_entry_points_only() -> None:
    points = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    drivers = {
        value.partition(":")[0].removeprefix("umbel.")
        for group in ("umbel.brokers", "umbel.backends")
        for value in points[group].values()
    }
    assert drivers
    assert all(layer(driver) == DRIVERS for driver in drivers)
    assert not drivers & set(CONTRACTS)


@pytest.mark.parametrize(
    ("module", "text", "target"),
    [
        ("message", "import umbel.app", "app"),
        ("codecs/json", "from ..app import Umbel", "app"),
        ("codecs/__init__", "from ..brokers import base", "brokers.base"),
        ("brokers/redis", "def open():\n    from umbel.task import Task", "task"),
        ("app", "from umbel.brokers.redis import RedisBroker", "brokers.redis"),
        ("app", "from umbel.brokers import redis", "brokers.redis"),
        ("result", "import importlib\nimportlib.import_module('umbel.brokers.redis')", "brokers.redis"),
        ("worker/intake", "class A:\n    async def f(self):\n        import umbel.cli", "cli"),
        ("worker/intake", "from umbel import Umbel", ""),
        ("message", "from umbel.yet_to_be_written import anything", "yet_to_be_written"),
        ("task", "if TYPE_CHECKING:\n    pass\nelse:\n    import umbel.worker.intake", "worker.intake"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, module: str, text: str, target: str) -> None:
    (found,) = imports_in(package(tmp_path, module, text))
    assert found.target == target
    assert broken_rule(found)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("message", "import json\nimport umbelliferous\nfrom umbel.errors import UmbelError"),
        ("codecs/json", "from . import yaml\nfrom ..errors import UmbelError"),
        ("app", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from umbel.brokers.redis import RedisBroker"),
        ("app", "from umbel.brokers import open_broker\nfrom umbel.brokers.base import Broker"),
        ("brokers/redis", "from umbel.backends.redis import keys\nfrom umbel.message import Message"),
        ("worker/intake", "from umbel.app import Umbel\nfrom umbel.executors import lane"),
        ("cli/__init__", "from umbel.worker.intake import Intake\nfrom umbel.brokers.redis import RedisBroker"),
    ],
)
def test_a_right_import_is_let_through(tmp_path: Path, module: str, text: str) -> None:
    assert [str(found) for found in imports_in(package(tmp_path, module, text)) if broken_rule(found)] == []


def package(directory: Path, module: str, text: str) -> Path:
    """A small package umbel in which one module has that text."""
    root = directory / "umbel"
    for name in ("__init__", "message", "errors", "app", "task", "result", "codecs/__init__", "codecs/yaml"):
        write(root / name, "")
    for name in ("brokers/__init__", "brokers/base", "brokers/redis", "backends/__init__", "backends/redis"):
        write(root / name, "")
    for name in ("worker/__init__", "worker/intake", "executors/__init__", "executors/lane", "cli/__init__"):
        write(root / name, "")
    write(root / module, text)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".py").write_text(text)
