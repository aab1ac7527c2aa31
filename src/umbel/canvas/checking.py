"""What is wrong with a canvas is said when it is made or sent, not by a worker."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from umbel.canvas.signature import Signature, signature
from umbel.codecs.representation import safe_repr
from umbel.errors import InvalidCanvas

if TYPE_CHECKING:
    from umbel.app import Umbel

DEEPEST = 60
"""Canvases inside of each other: what JSON decoders, Umbel's and others', still read."""


def calls_of(items: Iterable[Any], kind: str, app: Umbel | None) -> list[Signature]:
    """Signatures of ``items``. Raises InvalidCanvas for one that is none."""
    return [call_of(item, kind, app) for item in items]


def call_of(item: object, kind: str, app: Umbel | None) -> Signature:
    """``item`` as a signature. Raises InvalidCanvas when it is none."""
    if isinstance(item, Signature):
        return cast("Signature", item)
    if isinstance(item, Mapping) and "task" in item:
        return signature(cast("Mapping[str, Any]", item), app=app)
    given: object = cast("Any", item)
    hint = " (the signature of a task is task.s(…))" if callable(given) else ""
    raise InvalidCanvas(f"a {kind} is made of signatures, not of {safe_repr(given, 100)}{hint}")


def several(links: Any) -> list[Any]:
    """One signature, several or None, as a list."""
    if links is None:
        return []
    return [links] if isinstance(links, Mapping) else list(cast("Iterable[Any]", links))


def inner(call: Mapping[str, Any]) -> list[Any]:
    """The calls that a signature is directly made of."""
    kind = call.get("subtask_type")
    kwargs = cast("Mapping[str, Any]", call.get("kwargs") or {})
    if kind in ("chain", "group"):
        return list(kwargs.get("tasks") or ())
    if kind == "chord":
        body = kwargs.get("body")
        return [*several(kwargs.get("header")), *([] if body is None else [body])]
    return []


def singles(call: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every single task in a signature, in order."""
    left: list[Any] = [call]
    while left:
        each = left.pop()
        if each.get("subtask_type") in ("chain", "group", "chord"):
            left += reversed(inner(each))
        else:
            yield each


def errbacks_of(call: Mapping[str, Any]) -> list[Any]:
    """The error callbacks of all single tasks in a signature, each once."""
    found: list[Any] = []
    for single in singles(call):
        options: Mapping[str, Any] = single.get("options") or {}
        found += [errback for errback in several(options.get("link_error")) if errback not in found]
    return found


def exceeds(call: Mapping[str, Any], count: int) -> bool:
    """Whether a signature has more than ``count`` single tasks."""
    return any(number >= count for number, _ in enumerate(singles(call)))


def check(app: Umbel, canvas: Signature) -> None:
    """Raise InvalidCanvas for a canvas that contains itself, is too deep or too large, has a chord that can never end,
    or calls what is no task.

    A group that is followed by something in a chain counts as what it becomes: a chord whose body is the rest.
    """
    chords = False
    names = _Names(app)
    composed: list[Any] = []
    calls, most = 0, app.conf.canvas_max_size
    path: set[int] = set()
    left: list[tuple[Any, bool]] = [(canvas, True)]
    while left:
        call, entering = left.pop()
        if not entering:
            path.discard(id(call))
            continue
        parts = inner(call)
        if not parts:
            continue
        if id(call) in path:
            raise InvalidCanvas(f"a {call['subtask_type']} contains itself")
        names.check(parts, call["subtask_type"])
        path.add(id(call))
        calls += sum(map(_weight, parts))
        if calls > most:
            raise InvalidCanvas(
                f"a canvas may have {most:,} signatures, this one has more: send it in parts, or raise canvas_max_size"
            )
        kinds = [part.get("subtask_type") for part in parts[:-1]] if call["subtask_type"] == "chain" else []
        followed = sum(kind in ("group", "chord") for kind in kinds)
        if len(path) + followed > DEEPEST:
            raise InvalidCanvas(f"a canvas may be {DEEPEST} signatures deep, this one is deeper")
        chords = chords or bool(followed) or call["subtask_type"] == "chord"
        composed.append(call)
        left.append((call, False))
        left += ((part, True) for part in parts if part.get("subtask_type"))
    for call in composed:
        for members in _members(call):
            chords = True
            for single in (single for member in members for single in ends(member)):
                check_member(app, single)
    if chords:
        check_chords(app)


def _members(call: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The members of each chord that a canvas is or, where something follows a group in a chain, will become."""
    parts = inner(call)
    if call["subtask_type"] == "chord":
        yield several(call["kwargs"]["header"])
    elif call["subtask_type"] == "chain":
        for part in parts[:-1]:
            while part.get("subtask_type") == "chain" and inner(part):
                part = inner(part)[-1]
            if part.get("subtask_type") in ("group", "chunks"):
                yield inner(part)


def ends(call: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The single tasks with whose end a signature ends."""
    left: list[Any] = [call]
    while left:
        each = left.pop()
        kind = each.get("subtask_type")
        if kind == "group":
            left += reversed(inner(each))
        elif kind in ("chain", "chord"):
            left += inner(each)[-1:]
        else:
            yield each


class _Names:
    """Looks at the calls of one canvas for those that no worker could run."""

    def __init__(self, app: Umbel) -> None:
        self._app = app
        self._modules: dict[str, list[str]] | None = None

    def check(self, calls: Iterable[Any], kind: str) -> None:
        """Raise InvalidCanvas for what is no signature, and for a task that its module, which is imported here, does
        not have. Other names may be known to the workers alone."""
        tasks = self._app.tasks
        for call in calls:
            if not isinstance(call, Mapping) or not isinstance(name := cast("Any", call).get("task"), str) or not name:
                raise InvalidCanvas(f"a {kind} is made of signatures, not of {safe_repr(call, 100)}")
            if name in tasks or cast("Any", call).get("subtask_type"):
                continue
            if self._modules is None:
                self._modules = self._names_by_module()
            module = name.rpartition(".")[0]
            if module in self._modules:
                known = self._modules[module]
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(known)[:5])}"
                raise InvalidCanvas(f"a {kind} calls {name}, but {module} has no such task: {hint}")

    def _names_by_module(self) -> dict[str, list[str]]:
        """The tasks that have their names from the modules in which they were made."""
        found: dict[str, list[str]] = {}
        for name, task in self._app.tasks.items():
            module = name.rpartition(".")[0]
            if module and module == getattr(task.run, "__module__", None):
                found.setdefault(module, []).append(name)
        return found


def _weight(part: Mapping[str, Any]) -> int:
    """Messages that a part of a canvas stands for by itself."""
    if part.get("subtask_type") != "chunks":
        return 1
    parts = part["kwargs"]
    return -(-len(parts["it"]) // parts["n"])


def check_chords(app: Umbel) -> None:
    """Raise InvalidCanvas where the result store cannot do chords."""
    if not app.backend.features.chords:
        raise InvalidCanvas(
            f"the result backend {type(app.backend).__name__} cannot run chords (nor a group followed by a task): "
            "set result_backend to Redis or an SQL database"
        )


def check_member(app: Umbel, call: Mapping[str, Any]) -> None:
    """Raise InvalidCanvas for a member of a chord whose result nobody would get."""
    options: Mapping[str, Any] = call.get("options") or {}
    ignored = options.get("ignore_result")
    task = app.tasks.get(call["task"])
    if ignored or (ignored is None and task is not None and task.ignore_result):
        raise InvalidCanvas(f"{call['task']} is a member of a chord and ignores its result, which the body needs")
