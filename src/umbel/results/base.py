"""What all results have in common, and the words for those who wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from umbel.backends.base import Meta

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.results.group import GroupResult
    from umbel.results.single import AsyncResult

PROPAGATE_STATES = frozenset({"FAILURE", "REVOKED"})
"""States of which the exception is raised in whoever asks for the value."""

OnValue = Callable[[str, Any], object]
"""``callback(task id, value)``."""

OnMessage = Callable[[dict[str, Any]], object]
"""``on_message(meta)``, at each change of state; ``meta`` as by ``described``."""

OnInterval = Callable[[], object]


class ResultBase:
    """Base of all results.

    ``parent``: the result of what came before in a chain; for the body of a chord, that of its header. ``ignored``: it
    was sent with ``ignore_result``, so there is nothing to wait for.
    """

    parent: AsyncResult[Any] | GroupResult | None = None
    ignored: bool = False

    @property
    def app(self) -> Umbel:
        """The application whose result store is asked."""
        raise NotImplementedError

    def leaves(self) -> Iterator[AsyncResult[Any]]:
        """The results of single tasks that this one is made of."""
        raise NotImplementedError

    def _ids_to_revoke(self) -> str | list[str]:
        raise NotImplementedError

    def revoke(
        self,
        connection: object = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """See to it that the task is not run; end it, if it runs, with ``terminate``. See ``app.control.revoke``.

        Of several tasks all, in one message. ``signal``: what ends them in prefork pools, default SIGTERM. ``wait``:
        until they have ended, for up to ``timeout`` seconds (default 1). ``connection`` has no effect.
        """
        self.app.control.revoke(self._ids_to_revoke(), None, terminate, signal, wait=wait, timeout=timeout)


def described(meta: Meta) -> dict[str, Any]:
    """A meta as Celery's result document; an exception is in its plain form."""
    return {
        "task_id": meta.task_id,
        "status": meta.status,
        "result": meta.result,
        "traceback": meta.traceback,
        "children": meta.children,
        "date_done": meta.date_done,
    }
