"""Assertions about what was enqueued, with messages that list what was."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from umbel.brokers.memory import MemoryBroker
from umbel.clock import now
from umbel.codecs import loads
from umbel.current import get_current_app
from umbel.message import Message, decode_headers, parse_moment
from umbel.reading import body_parts
from umbel.signals import after_task_publish

if TYPE_CHECKING:
    from umbel.app import Umbel

ANY: Any = ...
"""Stands for any value of a criterion."""

_MOST = 10_000


class Enqueued(Struct, frozen=True):
    """One message. ``eta``: Unix time in seconds, None for at once."""

    id: str
    task: str
    args: Any
    kwargs: Any
    queue: str
    eta: float | None = None

    def __str__(self) -> str:
        parts = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        delay = self.eta - now() if self.eta is not None else 0.0
        return f"{self.task}({', '.join(parts)}) in {self.queue}" + (f", due in {delay:.3g} s" if delay > 0 else "")


def waiting(app: Umbel | None = None) -> list[Enqueued]:
    """What waits in the queues of ``app`` (default: the current one) now and was not claimed, oldest first.

    Of brokers other than ``memory://`` the configured queues are looked at, and messages that are delayed are not seen.
    """
    app = app or get_current_app()
    broker = app.broker
    if isinstance(broker, MemoryBroker):
        store = broker.store
        with store.changed:
            shelves = [store.look(name) for name in store.shelves]
            entries = [entry for shelf in shelves for _, _, entry in (*shelf.ready, *shelf.delayed)]
        messages = [entry.message for entry in sorted(entries, key=lambda entry: entry.turn)]
    else:
        messages = [message for name in app.queues() for message in broker.peek(name, _MOST)]
    return [_read(app, message) for message in messages]


def assert_enqueued(
    task: Any,
    *,
    args: Any = ANY,
    kwargs: Any = ANY,
    queue: str | None = None,
    count: int | None = None,
    app: Umbel | None = None,
) -> list[Enqueued]:
    """Raise AssertionError unless calls of ``task`` (or of its name) with these properties wait in the queues.

    ``args``, ``kwargs``: as they were passed, where given; tuples and lists are alike. ``count``: exactly so many, by
    default one or more. ``app``: default that of the task, else the current one. Returns the calls.
    """
    app = app or _app_of(task)
    return _expect(_Wanted(_name(task), args, kwargs, queue), count, waiting(app), app)


def assert_not_enqueued(
    task: Any = None, *, args: Any = ANY, kwargs: Any = ANY, queue: str | None = None, app: Umbel | None = None
) -> None:
    """Raise AssertionError if such a call waits in the queues; without ``task``, if any does."""
    app = app or _app_of(task)
    _expect(_Wanted(None if task is None else _name(task), args, kwargs, queue), 0, waiting(app), app)


@contextmanager
def enqueued(
    task: Any = None,
    *,
    args: Any = ANY,
    kwargs: Any = ANY,
    queue: str | None = None,
    count: int | None = None,
    app: Umbel | None = None,
) -> Generator[list[Enqueued]]:
    """Raise AssertionError at the end of the ``with`` block unless such calls were sent within it.

    The value is a list of all calls that were sent so far, on any broker and by any thread of this process, whether or
    not they were run meanwhile; without ``task`` and ``count`` they are only listed. The queue is told by routing key.
    """
    app = app or _app_of(task)
    sent: list[Enqueued] = []

    def note(sender: Any, headers: Mapping[str, Any], body: Any, routing_key: str, **_: Any) -> None:
        eta = headers.get("eta")
        args, kwargs, _embed = body_parts(body)
        sent.append(Enqueued(headers["id"], sender, args, kwargs, routing_key, parse_moment(eta) if eta else None))

    after_task_publish.connect(note, weak=False)
    try:
        yield sent
    finally:
        after_task_publish.disconnect(note)
    if task is not None or count is not None:
        _expect(_Wanted(None if task is None else _name(task), args, kwargs, queue), count, sent, app)


class _Wanted(Struct):
    task: str | None
    args: Any
    kwargs: Any
    queue: str | None

    def fits(self, call: Enqueued) -> bool:
        return (
            self.task in (None, call.task)
            and self.queue in (None, call.queue)
            and (self.args is ANY or _alike(call.args) == _alike(self.args))
            and (self.kwargs is ANY or _alike(call.kwargs) == _alike(self.kwargs))
        )

    def __str__(self) -> str:
        given = [("args", self.args), ("kwargs", self.kwargs), ("queue", self.queue or ANY)]
        told = ", ".join(f"{name}={value!r}" for name, value in given if value is not ANY)
        return (self.task or "a task") + (f" with {told}" if told else "")


def _expect(wanted: _Wanted, count: int | None, calls: Sequence[Enqueued], app: Umbel) -> list[Enqueued]:
    found = [call for call in calls if wanted.fits(call)]
    if (count is None and found) or len(found) == count:
        return found
    if count is None:
        told = f"{wanted} was not enqueued"
    else:
        told = f"{wanted} was enqueued {_times(len(found))}, not {_times(count) if count else 'at all'}"
        told = told if count else f"{wanted} was enqueued {_times(len(found))}"
    raise AssertionError(f"{told}\n{_listed(calls)}{_hint(app)}")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _listed(calls: Iterable[Enqueued]) -> str:
    lines = [f"  {call}" for call in calls]
    return "\n".join(["enqueued were:", *lines]) if lines else "nothing was enqueued"


def _hint(app: Umbel) -> str:
    return "\ntask_always_eager is on, so tasks run at once and are not sent" if app.conf.task_always_eager else ""


def _app_of(task: Any) -> Umbel:
    return getattr(task, "app", None) or get_current_app()


def _name(task: Any) -> str:
    return task if isinstance(task, str) else task.name


def _alike(value: Any) -> Any:
    """Tuples as lists, since most serializers know lists only."""
    if isinstance(value, (list, tuple)):
        return [_alike(item) for item in cast("Sequence[Any]", value)]
    if isinstance(value, dict):
        return {key: _alike(item) for key, item in cast("dict[Any, Any]", value).items()}
    return value


def _read(app: Umbel, message: Message) -> Enqueued:
    compression = decode_headers(message.headers).get("compression")
    body = loads(message.body, message.content_type, message.content_encoding, app.accept(), compression)
    args, kwargs, _ = body_parts(body)
    return Enqueued(message.id, message.task, args, kwargs, message.queue, message.eta)
