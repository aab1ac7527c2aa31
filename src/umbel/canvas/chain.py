"""Calls one after the other, each with the result of the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from umbel.canvas import stamping
from umbel.canvas.base import Canvas, shared_options
from umbel.canvas.checking import call_of, calls_of, several
from umbel.canvas.group import group
from umbel.canvas.signature import P, R, Signature
from umbel.canvas.storing import shortened
from umbel.errors import InvalidCanvas
from umbel.message import Message

if TYPE_CHECKING:
    from umbel.app import Umbel

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


@Signature.register_type()
class chain(Canvas[P, R]):
    """``chain(a, b)``, ``chain([a, b])`` or ``a | b``: ``b`` is called with the result of ``a``.

    Its result is that of the last call, whose ``parent`` is that of the one before. A group followed by a call is a
    chord. Raises InvalidCanvas for links that are no signatures.
    """

    subtask_type = "chain"

    @overload
    def __init__(self, a: Signature[P, R], /, *, app: Umbel | None = None, **options: Any) -> None: ...
    @overload
    def __init__(
        self, a: Signature[P, A], b: Signature[[A], R], /, *, app: Umbel | None = None, **options: Any
    ) -> None: ...
    @overload
    def __init__(
        self,
        a: Signature[P, A],
        b: Signature[[A], B],
        c: Signature[[B], R],
        /,
        *,
        app: Umbel | None = None,
        **options: Any,
    ) -> None: ...
    @overload
    def __init__(
        self,
        a: Signature[P, A],
        b: Signature[[A], B],
        c: Signature[[B], C],
        d: Signature[[C], R],
        /,
        *,
        app: Umbel | None = None,
        **options: Any,
    ) -> None: ...
    @overload
    def __init__(
        self: chain[..., Any], tasks: Iterable[Any] = (), /, *, app: Umbel | None = None, **options: Any
    ) -> None: ...
    @overload
    def __init__(
        self: chain[..., Any],
        a: Signature[..., Any],
        b: Signature[..., Any],
        c: Signature[..., Any],
        d: Signature[..., Any],
        e: Signature[..., Any],
        /,
        *more: Signature[..., Any],
        app: Umbel | None = None,
        **options: Any,
    ) -> None: ...
    def __init__(self, *tasks: Any, app: Umbel | None = None, **options: Any) -> None:
        given: Any = tasks
        if len(tasks) == 1 and not isinstance(tasks[0], Mapping):
            given = tasks[0]
        super().__init__("celery.chain", options=options, app=app)
        self.kwargs["tasks"] = calls_of(given, "chain", app)
        if app is None and self.tasks:
            self._app = self.tasks[0].own_app

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Umbel | None = None) -> chain:
        made = chain(d["kwargs"].get("tasks") or (), app=app, **(d.get("options") or {}))
        args = d.get("args") or ()
        made = made.clone(args) if args else made
        made["immutable"] = bool(d.get("immutable"))
        return made

    @property
    def tasks(self) -> list[Signature]:
        """The links, first to last."""
        return self.kwargs["tasks"]

    @tasks.setter
    def tasks(self, tasks: Sequence[Any]) -> None:
        self.kwargs["tasks"] = list(tasks)

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        if self.immutable:
            args, kwargs = (), None
        tasks = [call.clone(args, kwargs) if index == 0 else call.clone() for index, call in enumerate(self.tasks)]
        made = type(self)(tasks, app=self._app)
        made["options"] = {**self.options, **options}
        made["immutable"] = self.immutable
        return made

    def link(self, callback: Mapping[str, Any]) -> Any:
        """Call ``callback`` with the result of the last call."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Mapping[str, Any]) -> Any:
        """Call ``errback`` when one of the calls fails."""
        return self.append_to_list_option("link_error", errback)

    def stamp(
        self, visitor: stamping.StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Self:
        stamping.stamp_parts(self, visitor, append_stamps, headers)
        return self

    def steps(self) -> list[Signature]:
        """The calls one after the other: chains in it unrolled, groups and chords only at the end, with all that
        follows them as their body."""
        steps: list[Signature] = []
        left = self.own_steps()
        while left:
            call = left.pop()
            if isinstance(call, chain):
                left += call.own_steps()
            elif left and isinstance(call, group):
                steps.append(followed(cast("group", call), list(reversed(left))))
                break
            elif left and call.get("subtask_type") == "chord":
                steps.append(extended(call, list(reversed(left))))
                break
            else:
                steps.append(call)
        return steps

    def own_steps(self) -> list[Signature]:
        """The links in reverse order; links to callbacks have gone where they are called."""
        tasks = [cast("Any", call).group() if call.subtask_type == "chunks" else call for call in self.tasks]
        callbacks, errbacks = self.options.pop("link", None), self.options.pop("link_error", None)
        if callbacks and tasks:
            for callback in several(callbacks):
                tasks[-1].link(callback)
        if errbacks:
            for errback in several(errbacks):
                for call in tasks:
                    call.link_error(errback)
        return list(reversed(tasks))

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        self.tasks = steps = self.steps()
        if not steps:
            raise InvalidCanvas("an empty chain has no result: there is nothing to run")
        result: Any = None
        _id = _id or self.options.pop("task_id", None)
        for step in steps[:-1]:
            parent, result = result, step.freeze(root_id=root_id)
            result.parent = parent
        last = steps[-1].freeze(_id, group_id, chord, root_id, parent_id, group_index)
        if result is not None:
            eldest(last).parent = result
        return last

    @property
    def frozen_id(self) -> str | None:
        return self.tasks[-1].frozen_id if self.tasks else None

    def emit(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> Iterator[Message]:
        first, *rest = self.tasks
        following = [*(options.pop("chain", None) or ()), *reversed(rest)]
        first["options"] = stamping.with_shared(shared_options(self.options), first.options)
        if following:
            options["chain"] = shortened(app, following)
        yield from first.emit(app, () if self.immutable else args, **{**options, "add_to_parent": False})

    def apply(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        steps = self.clone(args, kwargs).steps()
        given: tuple[Any, ...] = ()
        result: Any = None
        for number, step in enumerate(steps):
            last = number == len(steps) - 1
            parent, result = result, step.apply(given, **(options if last else {}))
            result.parent = parent
            if not last:
                if not result.successful():
                    return result
                given = (result.get(),)
        if result is None:
            raise InvalidCanvas("an empty chain has no result: there is nothing to run")
        return result

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks)) if self.tasks else "chain()"


def eldest(result: Any) -> Any:
    """The first of a result and its parents."""
    while result.parent is not None:
        result = result.parent
    return result


def followed(members: group, rest: list[Signature]) -> Signature:
    """The chord of a group and what follows it."""
    from umbel.canvas.chord import chord

    body = rest[0] if len(rest) == 1 else chain(rest, app=members.app)
    return chord(members, body, app=members.app)


def extended(first: Signature, rest: list[Signature]) -> Signature:
    """A chord with ``rest`` after its body."""
    from umbel.canvas.chord import chord

    whole = cast("chord", first)
    body = [*([whole.body] if whole.body is not None else []), *rest]
    whole.body = body[0] if len(body) == 1 else chain(body, app=whole.app)
    return whole


def joined(left: Signature, right: Any) -> Any:
    """What ``left | right`` is."""
    from umbel.canvas.chord import chord

    if not isinstance(right, Mapping):
        return NotImplemented
    after = call_of(cast("object", right), "chain", left.app)
    rest = after.tasks if isinstance(after, chain) else [after]
    if isinstance(left, group):
        return followed(cast("group", left), list(rest))
    if isinstance(left, chord):
        return extended(left.clone(), list(rest))
    if not isinstance(left, chain):
        return chain([left, *rest], app=left.own_app)
    made = chain(app=left.own_app)
    *before, last = left.tasks or [None]
    if isinstance(last, group):
        made.tasks = [*before, followed(cast("group", last), list(rest))]
    elif isinstance(last, chord):
        made.tasks = [*before, extended(last.clone(), list(rest))]
    else:
        made.tasks = [*left.tasks, *rest]
    made["options"] = dict(left.options)
    return made
