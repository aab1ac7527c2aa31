"""Calls that run at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, cast, overload

from umbel.canvas import stamping
from umbel.canvas.base import Canvas, shared_options
from umbel.canvas.bulk import Alike
from umbel.canvas.checking import call_of, calls_of
from umbel.canvas.signature import M, P, Signature, T
from umbel.message import Message, new_id

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.canvas.chord import chord
    from umbel.groups import GroupResult


@Signature.register_type()
class group(Canvas[P, "list[M]"], Generic[P, M]):
    """``group(a, b)``, ``group([a, b])`` or a generator: calls that run at the same time.

    Its result is a :class:`~umbel.groups.GroupResult`. Groups in a group are members of the outer one. Raises
    InvalidCanvas for members that are no signatures.
    """

    subtask_type = "group"

    @overload
    def __init__(self, *tasks: Signature[P, M], app: Umbel | None = None, **options: Any) -> None: ...
    @overload
    def __init__(self, tasks: Iterable[Signature[P, M]], /, *, app: Umbel | None = None, **options: Any) -> None: ...
    @overload
    def __init__(
        self: group[..., Any], *tasks: Signature[..., Any], app: Umbel | None = None, **options: Any
    ) -> None: ...
    @overload
    def __init__(
        self: group[..., Any], tasks: Iterable[Any] = (), /, *, app: Umbel | None = None, **options: Any
    ) -> None: ...
    def __init__(self, *tasks: Any, app: Umbel | None = None, **options: Any) -> None:
        given: Any = tasks
        if len(tasks) == 1:
            only = tasks[0]
            if isinstance(only, Mapping):
                data = cast("Mapping[str, Any]", only)
                given = data["kwargs"]["tasks"] if data.get("subtask_type") == "group" else tasks
            else:
                given = only
        super().__init__("celery.group", options=options, app=app)
        self.kwargs["tasks"] = calls_of(given, "group", app)
        if app is None and self.tasks:
            self._app = self.tasks[0].own_app

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Umbel | None = None) -> group:
        made: group = group(d["kwargs"].get("tasks") or (), app=app, **(d.get("options") or {}))
        args = d.get("args") or ()
        return made.clone(args) if args else made

    @property
    def tasks(self) -> list[Signature]:
        """The members."""
        return self.kwargs["tasks"]

    @tasks.setter
    def tasks(self, tasks: Sequence[Any]) -> None:
        self.kwargs["tasks"] = list(tasks)

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        made = type(self)([call.clone(args, kwargs) for call in self.tasks], app=self._app)
        made["options"] = {**self.options, **options}
        return made

    def link(self, callback: Mapping[str, Any]) -> Any:
        """Call ``callback`` when the first member has succeeded, without its result, as Celery does: for the results of
        all, make it the body of a chord."""
        if not self.tasks:
            return callback
        return self.tasks[0].link(call_of(callback, "group", self._app).clone().set(immutable=True))

    def link_error(self, errback: Mapping[str, Any]) -> Any:
        """Call ``errback`` for each member that fails."""
        for call in self.tasks:
            call.link_error(errback)
        return errback

    def stamp(
        self, visitor: stamping.StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Self:
        stamping.stamp_parts(self, visitor, append_stamps, headers)
        return self

    def set_immutable(self, immutable: bool) -> None:
        for call in self.tasks:
            call.set_immutable(immutable)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Give members a countdown of ``start`` seconds, ``start + step``, …, beginning anew before ``stop``."""
        countdown = start
        for call in self.tasks:
            if stop is not None and countdown >= stop:
                countdown = start
            call.set(countdown=countdown)
            countdown += step
        return self

    def members(self) -> list[Signature]:
        """All members, those of groups in it too."""
        found: list[Signature] = []
        left: list[Signature] = list(reversed(self.tasks))
        while left:
            call = left.pop()
            if call.get("subtask_type") is None:
                found.append(call)
                continue
            call = simplified(call)
            if isinstance(call, group):
                shared = shared_options(call.options)
                for member in call.tasks:
                    member["options"] = stamping.with_shared(shared, member.options)
                left += reversed(call.tasks)
            else:
                found.append(call)
        return found

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> GroupResult:
        options = self.options
        own: str = options.setdefault("task_id", _id or new_id())
        if chord is not None:
            options.update(chord=chord, group_id=group_id)
        self.tasks = members = self.members()
        results = [
            call.freeze(
                group_id=group_id if chord is not None else None, chord=chord, root_id=root_id, group_index=index
            )
            for index, call in enumerate(members)
        ]
        return self.app.GroupResult(own, results)

    def emit(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> Iterator[Message]:
        following = options.pop("chain", None)
        if following:
            from umbel.canvas.chain import chain
            from umbel.canvas.chord import chord

            whole = chord(self, chain(list(reversed(following)), app=app), app=app)
            whole.freeze()
            yield from whole.emit(app, args, **options)
            return
        shared = {**shared_options(self.options), **options}
        member_of_chord = "chord" in self.options
        if not member_of_chord:
            shared["group_id"] = self.options["task_id"]
        alike = Alike(app, shared)
        for index, call in enumerate(self.tasks):
            message = alike.message(call, args, index)
            if message is not None:
                yield message
                continue
            call["options"] = stamping.with_shared(shared, call.options)
            if not member_of_chord:
                call.freeze(group_id=self.options["task_id"], group_index=index)
            yield from call.emit(app, args, add_to_parent=False)

    def apply(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> GroupResult:
        copy = self.clone()
        return self.app.GroupResult(
            options.pop("task_id", None) or new_id(), [call.apply(args, kwargs, **options) for call in copy.members()]
        )

    def __call__(self, *partial_args: Any, **options: Any) -> GroupResult:
        """Send it, with these arguments in front of the members'."""
        return self.apply_async(partial_args, None, **options)

    if TYPE_CHECKING:

        def __or__(self, other: Signature[[list[M]], T]) -> chord[P, T]: ...  # pyright: ignore[reportIncompatibleMethodOverride]

        def __invert__(self) -> list[M]: ...

        def apply_async(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
        ) -> GroupResult: ...

        def delay(self, *args: Any, **kwargs: Any) -> GroupResult: ...  # pyright: ignore[reportIncompatibleMethodOverride]

        async def aapply_async(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
        ) -> GroupResult: ...

        async def adelay(self, *args: Any, **kwargs: Any) -> GroupResult: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return f"group({self.tasks!r})"


def simplified(call: Signature) -> Signature:
    """A chain of one call as that call, chunks as their group."""
    from umbel.canvas.chain import chain

    if call.subtask_type == "chunks":
        return cast("Any", call).group()
    if isinstance(call, chain):
        call.tasks = steps = call.steps()
        if len(steps) == 1:
            (only,) = steps
            only["options"] = stamping.with_shared(shared_options(call.options), only.options)
            return only
    return call
