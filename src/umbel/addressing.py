"""The queues and routes of an application, compiled from its settings and compiled anew when these change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.routing import ROUTING_OPTIONS, Address, Router, address_of, configured_queues, missing_queue

if TYPE_CHECKING:
    from umbel.config import Settings
    from umbel.queues import Queue


class Routes:
    """Answers where a message goes, from what the settings said when it was last asked."""

    def __init__(self, conf: Settings) -> None:
        self._conf = conf
        self.edition = 0
        """Another number whenever a queue was added."""
        self._queues: tuple[Any, str, Any, dict[str, Queue]] | None = None
        self._addresses: dict[str | None, Address] = {}
        self._router: tuple[Any, Router] | None = None
        self._added: dict[str, Queue] = {}
        self._selected: list[str] | None = None

    def queues(self) -> dict[str, Queue]:
        """The configured queues by name, and those that came into use since."""
        conf = self._conf
        given, default, mode = conf.task_queues, conf.task_default_queue, conf.task_default_delivery_mode
        known = self._queues
        if known is None or known[0] is not given or known[1] != default or known[2] != mode:
            known = self._queues = given, default, mode, {**configured_queues(conf), **self._added}
            self._addresses = {}
        return known[3]

    def add(self, queue: Queue) -> None:
        """Know a queue in addition to the configured ones, without consuming from it."""
        self._added[queue.name] = queue
        self._queues = None
        self.edition += 1

    def queue(self, name: str) -> Queue:
        """The queue of this name. Raises UnroutableMessage for an unknown one that must not be made."""
        return self.queues().get(name) or missing_queue(self._conf, name)

    def consumed(self) -> dict[str, Queue]:
        """The queues for workers that are told nothing else: those selected, or all that are configured."""
        if self._selected is None:
            return configured_queues(self._conf)
        known = self._known()
        return {name: known.get(name) or missing_queue(self._conf, name) for name in self._selected}

    def select(self, names: Sequence[str] | str | None) -> None:
        """Let workers consume from these queues only; nothing changes where none are named. Unknown ones are made."""
        if names:
            self._selected = list(dict.fromkeys(_names(names)))

    def deselect(self, names: Sequence[str] | str) -> None:
        """Let workers not consume from these queues."""
        unwanted = _names(names)
        self._selected = [name for name in self.consumed() if name not in unwanted]

    def consume(self, select: Sequence[str] | None, exclude: Sequence[str] | None) -> list[Queue]:
        """The queues for a worker: those of ``consumed``, or those selected, without those excluded."""
        known, unwanted = self._known(), set(exclude or ())
        names = [name for name in (select or self.consumed()) if name not in unwanted]
        return [known.get(name) or missing_queue(self._conf, name) for name in names]

    def _known(self) -> dict[str, Queue]:
        return {**configured_queues(self._conf), **self._added}

    def address(self, options: Mapping[str, Any]) -> Address:
        """Where execution options send a message to. Addresses that hang on a queue's name alone are remembered."""
        queues = self.queues()
        name = options.get("queue")
        if not ROUTING_OPTIONS.isdisjoint(options) or not (name is None or isinstance(name, str)):
            return address_of(self._conf, queues, options)
        known = self._addresses.get(name)
        if known is None:
            known = self._addresses[name] = address_of(self._conf, queues, options)
        return known

    @property
    def router(self) -> Router:
        """The routes of ``task_routes``."""
        given = self._conf.task_routes
        known = self._router
        if known is None or known[0] is not given:
            known = self._router = given, Router(given)
        return known[1]


def _names(names: Sequence[str] | str) -> list[str]:
    """Names, also when they are given as text with commas."""
    return [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]
