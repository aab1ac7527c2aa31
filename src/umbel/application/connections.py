"""``app.connection_for_write()`` and its kind: Celery's view of the broker, to see whether it is there and to ask for
the size of queues. Sending a task needs none of it: one driver serves all threads of a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from umbel.errors import OperationalError
from umbel.urls import redact

if TYPE_CHECKING:
    from umbel.app import Umbel


class QueueDeclared(NamedTuple):
    """What is known of a queue; ``consumer_count`` is always 0, brokers need not know it."""

    queue: str
    message_count: int
    consumer_count: int


class Channel:
    """Administration of queues."""

    def __init__(self, app: Umbel) -> None:
        self._app = app

    def queue_declare(self, queue: str = "", passive: bool = False, **options: Any) -> QueueDeclared:
        """Make a queue of this name as it is configured, unless ``passive``; how many messages are ready in it.

        Other options have no effect: what a queue is like is said in ``task_queues``. Raises OperationalError.
        """
        broker = self._app.broker
        if not passive:
            broker.declare(self._app.routes.queue(queue))
        return QueueDeclared(queue, max(0, broker.size(queue).ready), 0)

    def queue_purge(self, queue: str, **options: Any) -> int:
        """Remove what waits in a queue; how many messages."""
        return self._app.broker.purge(queue)

    def queue_delete(self, queue: str, **options: Any) -> None:
        """Remove a queue with all that is in it."""
        self._app.broker.delete(queue)

    def close(self) -> None:
        """Nothing needs to be closed."""


class Connection:
    """The application's broker. Closing it leaves the driver open, ``app.close()`` closes that."""

    connection_errors = recoverable_connection_errors = (OperationalError,)
    channel_errors = recoverable_channel_errors = ()

    def __init__(self, app: Umbel) -> None:
        self._app = app
        self.connected = False
        """Whether the broker has answered."""

    def connect(self) -> Self:
        """Ask the broker for something. Raises OperationalError when it does not answer."""
        self._app.broker.size(self._app.conf.task_default_queue)
        self.connected = True
        return self

    def ensure_connection(
        self,
        errback: Callable[[BaseException, float], object] | None = None,
        max_retries: int | None = None,
        interval_start: float = 2,
        interval_step: float = 2,
        interval_max: float = 30,
        callback: Callable[[], object] | None = None,
        reraise_as_library_errors: bool = True,
        timeout: float | None = None,
    ) -> Self:
        """``connect`` until the broker answers: ``max_retries`` times, for ``timeout`` seconds, or for ever.

        ``errback(error, pause)`` is called before each pause. Raises OperationalError in the end. ``callback`` and
        ``reraise_as_library_errors`` have no effect.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        retries, pause = 0, float(interval_start)
        while True:
            try:
                return self.connect()
            except OperationalError as error:
                over = deadline is not None and time.monotonic() + pause > deadline
                if over or (max_retries is not None and retries >= max_retries):
                    raise
                if errback is not None:
                    errback(error, pause)
            time.sleep(pause)
            retries, pause = retries + 1, min(pause + interval_step, interval_max)

    def as_uri(self, include_password: bool = False, mask: str = "**") -> str:
        """The broker's URL, without its password unless that is asked for."""
        url = self._app.broker.url
        return url if include_password else redact(url)

    @property
    def default_channel(self) -> Channel:
        return Channel(self._app)

    def channel(self) -> Channel:
        return Channel(self._app)

    def release(self) -> None:
        """Nothing needs to be released."""
        self.connected = False

    close = release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class Producer:
    """What ``apply_async(producer=…)`` may be given; the driver of the broker sends all the same."""

    def __init__(self, app: Umbel) -> None:
        self.connection = Connection(app)

    def release(self) -> None:
        """Nothing needs to be released."""

    close = release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class Pool:
    """``acquire`` gives a connection or a producer at once: there is no limit to wait for."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """A connection or producer; ``block`` and ``timeout`` have no effect."""
        return self._make()

    def force_close_all(self) -> None:
        """Nothing needs to be closed."""
