"""A group, and a call that gets the results of all its members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from umbel.canvas import stamping
from umbel.canvas.base import Canvas, shared_options
from umbel.canvas.bulk import Alike
from umbel.canvas.chain import chain, eldest
from umbel.canvas.checking import call_of, calls_of, check_chords, ends
from umbel.canvas.group import group
from umbel.canvas.members import unlocking_message
from umbel.canvas.signature import P, R, Signature
from umbel.canvas.storing import reference_to_body
from umbel.errors import InvalidCanvas
from umbel.message import Message
from umbel.sending import plain

if TYPE_CHECKING:
    from umbel.app import Umbel

A = TypeVar("A")


@Signature.register_type()
class chord(Canvas[P, R]):
    """``chord(header, body)`` or ``chord(header)(body)``: ``body`` is called with the list of ``header``'s results.

    ``header``: a group, or signatures. Its result is the body's; the ``parent`` of that is the header's. When a member
    fails, the body fails with a ChordError once all members have ended. Raises InvalidCanvas.
    """

    subtask_type = "chord"

    @overload
    def __init__(
        self,
        header: Signature[P, list[A]] | Iterable[Signature[P, A]],
        body: Signature[[list[A]], R],
        task: str = "celery.chord",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Umbel | None = None,
        **options: Any,
    ) -> None: ...
    @overload
    def __init__(
        self: chord[..., Any],
        header: Any,
        body: Signature[[list[Any]], Any] | None = None,
        task: str = "celery.chord",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Umbel | None = None,
        **options: Any,
    ) -> None: ...
    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Umbel | None = None,
        **options: Any,
    ) -> None:
        super().__init__(task, options=options, app=app)
        members = cast("group", header) if isinstance(header, group) else group(header, app=app)
        after = None if body is None else call_of(body, "chord's body", app)
        if args or kwargs:
            members = members.clone(args or (), kwargs)
        self["kwargs"] = {"header": members, "body": after, "kwargs": {}}
        if app is None:
            self._app = members.own_app or (after.own_app if after is not None else None)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Umbel | None = None) -> chord:
        parts = d["kwargs"]
        header: Any = parts.get("header")
        if not isinstance(header, (Mapping, list, tuple)):
            raise InvalidCanvas(f"the header of a chord is a group or a list, not {type(header).__name__}")
        members = cast("Any", header if isinstance(header, Mapping) else calls_of(cast("Any", header), "chord", app))
        options: Mapping[str, Any] = d.get("options") or {}
        return chord(
            call_of(cast("object", members), "chord", app) if isinstance(members, Mapping) else members,
            parts.get("body"),
            args=d.get("args"),
            kwargs=parts.get("kwargs"),
            app=app,
            **options,
        )

    @property
    def header(self) -> group:
        return self.kwargs["header"]

    @property
    def tasks(self) -> list[Signature]:
        """The members of the header."""
        return self.header.tasks

    @tasks.setter
    def tasks(self, tasks: Sequence[Any]) -> None:
        self.header.tasks = tasks

    @property
    def body(self) -> Any:
        """The call that gets the results, or None."""
        return self.kwargs["body"]

    @body.setter
    def body(self, body: Any) -> None:
        self.kwargs["body"] = body

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        body = None if self.body is None else self.body.clone()
        made = type(self)(self.header.clone(args, kwargs), body, app=self._app)
        made["options"] = {**self.options, **options}
        return made

    def link(self, callback: Mapping[str, Any]) -> Any:
        """Call ``callback`` with the result of the body."""
        return self.needed_body().link(callback)

    def link_error(self, errback: Mapping[str, Any]) -> Any:
        """Call ``errback`` when the body fails or cannot run because a member failed; with
        ``task_allow_error_cb_on_chord_header`` also for each member that fails."""
        if self.app.conf.task_allow_error_cb_on_chord_header:
            self.header.link_error(errback)
        self.needed_body().link_error(errback)
        return errback

    def stamp(
        self, visitor: stamping.StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Self:
        stamping.stamp_chord(self, visitor, append_stamps, headers)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Of the header's members."""
        self.header.set_immutable(immutable)

    def needed_body(self) -> Signature:
        """The body. Raises InvalidCanvas when there is none."""
        if self.body is None:
            raise InvalidCanvas("a chord needs a body, a call that gets the results of its header")
        return self.body

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        header, body = self.header, self.needed_body()
        if body.subtask_type == "chunks":
            self.body = body = cast("Any", body).group()
        members = header.freeze(root_id=root_id)
        self.options["task_id"] = header.options["task_id"]
        result = body.freeze(_id, group_id, chord, root_id, parent_id, group_index)
        eldest(result).parent = members
        return result

    @property
    def frozen_id(self) -> str | None:
        return self.needed_body().frozen_id

    def take_options(self, options: dict[str, Any]) -> None:
        body_options = shared_options({name: value for name, value in options.items() if value is not None})
        super().take_options(options)
        body = self.needed_body()
        for name in ("link", "link_error", "countdown", "eta"):
            body_options.pop(name, None)
        body["options"] = {**body_options, **body.options}

    def emit(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> Iterator[Message]:
        check_chords(app)
        header, body = self.header, self.needed_body()
        following = options.pop("chain", None)
        if following:
            body = chain([body, *reversed(following)], app=app)
            body.freeze()
        members, group_id = header.tasks, header.options["task_id"]
        size = sum(1 for call in members for _ in ends(call))
        if not size:
            yield from body.emit(app, ([],), add_to_parent=False)
            return
        if any(_is_nested(call) for call in members):
            app.backend.save_group(group_id, {"result": header.freeze().as_tuple()})
        counted = not app.conf.mixed_fleet or app.backend.features.counts_with_celery
        if app.conf.mixed_fleet and counted:
            app.backend.begin_chord(group_id, size)
        carried = reference_to_body(app, _carried(body, group_id, size if counted else None))
        if not counted:
            yield unlocking_message(app, header.freeze(), carried)
        shared = {**shared_options(self.options), **shared_options(header.options), **options}
        alike = Alike(app, {**shared, "group_id": group_id, "chord": carried})
        for index, call in enumerate(members):
            message = alike.message(call, args, index)
            if message is not None:
                yield message
                continue
            call["options"] = stamping.with_shared(shared, call.options)
            call.freeze(group_id=group_id, chord=carried, group_index=index)
            yield from call.emit(app, args, add_to_parent=False)

    def apply(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        propagate: bool = True,
        body: Any = None,
        **options: Any,
    ) -> Any:
        """Run it here and now. ``propagate``: a failed member fails the body, otherwise its error is passed on as its
        result."""
        from umbel.eager import apply_chord

        copy = self.clone(args, kwargs)
        if body is not None:
            copy.body = call_of(body, "chord's body", self._app).clone()
        return apply_chord(copy, options, propagate)

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it with this body."""
        whole = self
        if body is not None:
            whole = type(self)(self.header, body, app=self._app)
            whole["options"] = dict(self.options)
        return whole.apply_async((), {}, **options)

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return f"chord({self.tasks!r}, {self.body!r})"


def _carried(body: Signature, group_id: str, size: int | None) -> dict[str, Any]:
    """A body as data, as it travels in the messages of the members; without a size where they are not counted."""
    data = plain(body)
    data["chord_size"] = size
    if "chord" not in data["options"] and data.get("subtask_type") is None:
        data["options"]["group_id"] = group_id
    return data


def _is_nested(call: Signature) -> bool:
    """Whether a member's result is a list of results: it ends in a group."""
    while isinstance(call, (chain, chord)):
        call = call.tasks[-1] if isinstance(call, chain) else call.body
    return isinstance(call, group)
