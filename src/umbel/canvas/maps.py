"""One task for many arguments: ``xmap`` and ``xstarmap`` in one message, ``chunks`` in some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from umbel.canvas.base import Canvas
from umbel.canvas.checking import call_of
from umbel.canvas.group import group
from umbel.canvas.signature import Signature
from umbel.errors import InvalidCanvas
from umbel.message import Message

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.groups import GroupResult


class _Map(Signature[..., list[Any]]):
    """A call of a task that calls another one for each item."""

    _task = ""

    def __init__(self, task: Any, it: Iterable[Any], app: Umbel | None = None, **options: Any) -> None:
        call = _called(task, app)
        super().__init__(
            self._task, kwargs={"task": call, "it": list(it)}, options=options, immutable=True, app=app or call.own_app
        )

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Umbel | None = None) -> Self:
        return cls(d["kwargs"]["task"], d["kwargs"]["it"], app=app, **(d.get("options") or {}))

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        return type(self)(self.kwargs["task"], self.kwargs["it"], app=self._app, **{**self.options, **options})

    def __repr__(self) -> str:
        return f"[{self._shown.format(self.kwargs['task'].task)} for x in {self.kwargs['it']!r}]"

    _shown = ""


@Signature.register_type()
class xmap(_Map):
    """Call a task with each item, one after the other in one message; the list of what it returned."""

    subtask_type = "xmap"
    _task = "celery.map"
    _shown = "{}(x)"


@Signature.register_type()
class xstarmap(_Map):
    """As ``xmap``, with each item as the task's arguments."""

    subtask_type = "xstarmap"
    _task = "celery.starmap"
    _shown = "{}(*x)"


@Signature.register_type()
class chunks(Canvas[..., list[Any]]):
    """Call a task with each item as its arguments, ``n`` in one message.

    Its result is that of the group of messages: a list of lists. Raises InvalidCanvas for ``n`` below 1.
    """

    subtask_type = "chunks"

    def __init__(self, task: Any, it: Iterable[Any], n: int, app: Umbel | None = None, **options: Any) -> None:
        if n < 1:
            raise InvalidCanvas(f"chunks have at least one item, not {n}")
        call = _called(task, app)
        super().__init__(
            "celery.chunks",
            kwargs={"task": call, "it": list(it), "n": n},
            options=options,
            immutable=True,
            app=app or call.own_app,
        )

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Umbel | None = None) -> Self:
        parts = d["kwargs"]
        return cls(parts["task"], parts["it"], parts["n"], app=app, **(d.get("options") or {}))

    def group(self) -> group:
        """The messages, as a group of starmaps."""
        items: list[Any] = self.kwargs["it"]
        size: int = self.kwargs["n"]
        parts = [
            xstarmap(self.kwargs["task"], items[start : start + size], app=self._app)
            for start in range(0, len(items), size)
        ]
        return group(parts, app=self.app, **self.options)

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        parts = self.kwargs
        return type(self)(parts["task"], parts["it"], parts["n"], app=self._app, **{**self.options, **options})

    def freeze(self, *args: Any, **kwargs: Any) -> Any:
        raise InvalidCanvas("chunks are put into other canvases as a group: chunks.group()")

    def emit(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> Iterator[Message]:
        whole = self.group()
        whole.freeze()
        yield from whole.emit(app, **options)

    def messages(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> tuple[list[Message], Any]:
        return self.group().messages(app, **options)

    def apply_async(  # pyright: ignore[reportIncompatibleMethodOverride] - of a group, as group's own
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> GroupResult:
        return self.group().apply_async(**options)

    def apply(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> GroupResult:
        return self.group().apply(**options)

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: Umbel | None = None) -> GroupResult:
        """Send them."""
        return cls(task, it, n, app=app).apply_async()

    def __call__(self, **options: Any) -> GroupResult:
        return self.apply_async(**options)


def _called(task: Any, app: Umbel | None) -> Signature:
    if not isinstance(task, Mapping) and hasattr(task, "signature"):
        return task.signature()
    return call_of(cast("object", task), "map", app)
