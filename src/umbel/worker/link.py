"""A worker's link to its broker: three threads, each in one blocking call at a time.

*receive* claims when lanes are idle and hands what it gets to the flow; *settle* waits for reports of executors, ends
work and claims more in the same round trip; *renew* keeps the lease. Nothing here decides anything.

A call that fails because the system cannot be reached is repeated with back-off for as long as the link lives; the
drivers reconnect by themselves. An unexpected error ends the link and is reported, and the worker makes a new one.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from umbel.backends.base import Part, Result
from umbel.brokers.base import Action, Consumer, Delivery, Settled, Settlement
from umbel.errors import BrokerError, OperationalError, UmbelError
from umbel.message import Message
from umbel.queues import Queue
from umbel.worker.claims import Claims

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.board import Board
    from umbel.worker.job import Job

T = TypeVar("T")

logger = logging.getLogger("umbel.worker.link")

RECEIVE_TIMEOUT = 2.0
COLLECT_TIMEOUT = 1.0


@dataclass(slots=True)
class Ending:
    """What the loop hands over to be settled, in order."""

    settlements: list[Settlement] = field(default_factory=list[Settlement])
    results: list[Result] = field(default_factory=list[Result])
    """Stored by themselves: states of running tasks, outcomes of messages acknowledged early."""
    publish: list[Message] = field(default_factory=list[Message])
    parts: list[Part] = field(default_factory=list[Part])
    """Of tasks acknowledged early."""
    closes: list[str] = field(default_factory=list[str])
    acknowledge: list[Job] = field(default_factory=list["Job"])
    """Acknowledged before they run; reported by ``on_acknowledged``."""
    left: list[Message] = field(default_factory=list[Message])
    """What gates let through and has come to an end here; kept only where there are gates."""
    over: list[Message] = field(default_factory=list[Message])
    """Of what was acknowledged early, and where there are gates: what has ended for good."""
    lease_number: int = 0
    """The lease under which it was submitted."""

    def end(self, settlement: Settlement, acknowledged: bool = False) -> None:
        """A task has ended without an executor; ``acknowledged``: its message before it ran."""
        self.results += settlement.fallout
        if not acknowledged:
            self.settlements.append(settlement)
            return
        self.publish += settlement.publish
        self.parts += settlement.parts
        if settlement.result is not None:
            self.results.append(settlement.result)

    def __bool__(self) -> bool:
        return bool(self.settlements or self.results or self.publish or self.parts or self.acknowledge or self.left)


class Owner(Protocol):
    """What the link's threads call."""

    def collect(self, timeout: float) -> Ending:
        """Settling thread: what has ended; waits up to ``timeout`` seconds for it, and may be empty."""
        ...

    def on_deliveries(self, deliveries: list[Delivery], room: int) -> None:
        """The claim for which ``room`` was taken was answered."""
        ...

    def refused(self, delivery: Delivery, error: UmbelError) -> Settlement:
        """How a task ends whose own settlement the broker refuses for good."""
        ...

    def on_settled(self, ending: Ending, settled: Settled, room: int) -> None: ...

    def on_renewed(self) -> None:
        """Renewing thread: the lease was renewed. Must not block."""
        ...

    def on_lease_lost(self) -> None: ...

    def on_link_broken(self, error: BaseException) -> None: ...

    def wake(self) -> None:
        """Make ``collect`` return."""
        ...


class Link:
    """Opened by ``open`` (blocking), which also keeps the lease; run by ``start``, ended by ``close`` (blocking)."""

    def __init__(
        self,
        app: Umbel,
        queues: Sequence[Queue],
        *,
        name: str,
        lease: float,
        renewal: float,
        board: Board,
        owner: Owner,
    ) -> None:
        self.app = app
        self.queues = list(queues)
        self.name = name
        self.lease = lease
        self.renewal = renewal
        self.board = board
        self.owner = owner
        self.claims = Claims()
        self._queue_names = {queue.name for queue in queues}
        self._atomic = app.broker.stores_results_of(app.backend)
        self._stopping = threading.Event()
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._consumer: Consumer | None = None

    # -- life --

    def open(self) -> None:
        """Begin to consume. Raises OperationalError when the broker cannot be reached, BrokerError when it refuses."""
        broker = self.app.broker
        for each in self.queues:
            broker.declare(each)
        self._consumer = broker.consumer(self.queues, name=self.name, lease=self.lease)
        self.board.lease_end = time.monotonic() + self._lease_span(self._consumer)
        self._begin("renew", self._renew)

    def start(self) -> None:
        """Claim and settle."""
        self._begin("receive", self._receive)
        self._begin("settle", self._settle)

    def _begin(self, name: str, body: Callable[[Consumer], None]) -> None:
        thread = threading.Thread(target=self._guard, args=(body,), name=f"umbel-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop_claiming(self) -> None:
        """Claim nothing any more; a waiting receive is interrupted."""
        self._stopping.set()
        self.claims.close()
        if self._consumer:
            self._consumer.interrupt()

    def close(self, timeout: float = 10.0) -> None:
        """Settle what was submitted, give back what is held, end the lease. Takes up to ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        self.stop_claiming()
        self._closing.set()
        self.owner.wake()
        for thread in self._threads:
            if thread.name != "umbel-renew" and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        self._closed.set()
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        if self._consumer:
            try:
                self._consumer.close()
            except UmbelError as error:
                logger.warning("what is held could not be given back; it returns when the lease ends: %s", error)
            self._consumer = None

    def keep(self, message: Message) -> Delivery | None:
        """See ``Consumer.keep``; None also where the message is not to be run by this worker at once. Any thread."""
        if message.eta is not None or message.exchange or self._consumer is None or self._stopping.is_set():
            return None
        return self._consumer.keep(message)

    # -- threads --

    def _guard(self, body: Callable[[Consumer], None]) -> None:
        assert self._consumer is not None
        try:
            body(self._consumer)
        except BaseException as error:
            if not self._closed.is_set():
                logger.exception("the link to the broker broke")
                self.owner.on_link_broken(error)

    def _receive(self, consumer: Consumer) -> None:
        backoff = _Backoff("receive", self._stopping)
        while not self._stopping.is_set():
            room = self.claims.await_room(RECEIVE_TIMEOUT)
            if not room:
                continue
            try:
                deliveries = consumer.receive(room, RECEIVE_TIMEOUT)
            except OperationalError as error:
                self.owner.on_deliveries([], room)
                backoff.wait(error)
                continue
            backoff.reset()
            self.owner.on_deliveries(deliveries, room)

    def _renew(self, consumer: Consumer) -> None:
        backoff = _Backoff("renew", self._closed, self.lease / 4)
        while not self._closed.wait(min(self.renewal, self._lease_span(consumer) / 3)):
            asked = time.monotonic()
            try:
                kept = consumer.renew()
            except OperationalError as error:
                backoff.wait(error)
                continue
            backoff.reset()
            if not kept:
                logger.warning("the lease was lost: what this worker holds may be run by others")
                self.board.begin_lease()
                self.owner.on_lease_lost()
            self.board.lease_end = asked + self._lease_span(consumer)
            self.owner.on_renewed()

    def _lease_span(self, consumer: Consumer) -> float:
        return min(self.lease, consumer.proven_for)

    # -- settling --

    def _settle(self, consumer: Consumer) -> None:
        while not self._closed.is_set():
            ending = self.owner.collect(COLLECT_TIMEOUT)
            if ending:
                self.settle(consumer, ending)
            elif self._closing.is_set():
                return

    def settle(self, consumer: Consumer, ending: Ending) -> None:
        """Store, publish and settle what has ended, and tell the owner. Settling thread, or whoever stands for it."""
        settlements = ending.settlements + [Settlement(job.delivery) for job in ending.acknowledge]
        self._persist(ending)
        room = self.claims.take(self._follow_ups(settlements))
        settled = Settled()
        if settlements or room:
            settled = self._settle_with_consumer(consumer, settlements, room)
        if not self._atomic:
            self._persist_withheld(ending.settlements, settled.stale)
        self._close_chords(ending, settled)
        self.owner.on_settled(ending, settled, room)

    def _follow_ups(self, settlements: list[Settlement]) -> int:
        """How many messages these settlements send that this worker could run at once, and has not kept."""
        names = self._queue_names
        return sum(
            message.queue in names and message.eta is None
            for settlement in settlements
            if len(settlement.publish) > len(settlement.keep)
            for message in settlement.publish
        )

    def _persist(self, ending: Ending) -> None:
        """Store and publish what does not go with a settlement, before anything is acknowledged."""
        results = ending.results
        if not self._atomic:
            self._await_lease()
            if ending.lease_number == self.board.lease_number:
                results = results + [s.result for s in ending.settlements if s.result is not None]
                for settlement in ending.settlements:
                    settlement.result = None
                self._store_parts(ending.settlements)
        if ending.parts:
            ending.publish += [part.then for part in self._completed(ending.parts)]
        if ending.publish:
            self._repeat("publish", lambda: self.app.broker.publish(ending.publish))
        if results:
            self._repeat("store", lambda: self.app.backend.store(results))

    def _persist_withheld(self, settlements: list[Settlement], stale: list[Settlement]) -> None:
        """Store what was not stored before it was settled, because the lease had changed since the ending was begun:
        a hold that was good all the same is of the new lease, and its message will not come again."""
        refused = {id(settlement) for settlement in stale}
        late = [s for s in settlements if (s.result is not None or s.parts) and id(s) not in refused]
        if not late:
            return
        parts = [part for settlement in late for part in settlement.parts]
        follow = [part.then for part in self._completed(parts)] if parts else []
        if follow:
            self._repeat("publish", lambda: self.app.broker.publish(follow))
        if results := [settlement.result for settlement in late if settlement.result is not None]:
            self._repeat("store", lambda: self.app.backend.store(results))

    def _store_parts(self, settlements: list[Settlement]) -> None:
        """Note members of chords that have ended; what a complete chord sends goes with the settlement, so that it is
        sent before the acknowledgement, again if need be."""
        parts = [part for settlement in settlements for part in settlement.parts]
        if not parts:
            return
        completed = {id(part) for part in self._completed(parts)}
        for settlement in settlements:
            if settlement.parts:
                then = (part.then for part in settlement.parts if id(part) in completed)
                settlement.publish = (*settlement.publish, *then)
                settlement.parts = ()

    def _completed(self, parts: list[Part]) -> list[Part]:
        return self._repeat("store", lambda: self.app.backend.store_parts(parts))

    def _close_chords(self, ending: Ending, settled: Settled) -> None:
        """Forget the chords whose bodies have been sent. What this leaves behind when it fails expires by itself."""
        finished = [settlement for settlement in ending.settlements if settlement.closes]
        if finished:
            stale = {id(settlement) for settlement in settled.stale}
            ending.closes += [settlement.closes for settlement in finished if id(settlement) not in stale]
        if ending.closes:
            try:
                self.app.backend.close_chords(ending.closes)
            except UmbelError as error:
                logger.warning("the parts of finished chords could not be removed: %s", error)

    def _await_lease(self) -> None:
        """Wait until the lease is certain, or lost: a store of its own cannot tell who holds it."""
        while not self.board.lease_is_good() and not self._closed.wait(0.02):
            pass

    def _settle_with_consumer(self, consumer: Consumer, settlements: list[Settlement], want: int) -> Settled:
        try:
            return self._repeat("settle", lambda: consumer.settle(settlements, want))
        except UmbelError as error:
            if isinstance(error, OperationalError):
                raise
            if len(settlements) == 1:
                return self._give_up_on(consumer, settlements[0], error, want)
        settled = Settled()
        for settlement in settlements:
            one = self._settle_with_consumer(consumer, [settlement], 0)
            settled.stale += one.stale
        settled.deliveries += self._repeat("claim", lambda: consumer.settle([], want)).deliveries
        return settled

    def _give_up_on(self, consumer: Consumer, settlement: Settlement, error: UmbelError, want: int) -> Settled:
        """The broker refuses this one for good: its message is set aside with the reason, and nothing is lost."""
        message = settlement.delivery.message
        logger.error("task %s[%s] cannot be settled, its message is dead-lettered: %s", message.task, message.id, error)
        refusal = BrokerError(f"outcome refused by the broker: {error}")
        instead = self.owner.refused(settlement.delivery, refusal)
        ending = Ending([instead], list(instead.fallout), lease_number=self.board.lease_number)
        self._persist(ending)
        try:
            return self._repeat("settle", lambda: consumer.settle([instead], want))
        except OperationalError:
            raise
        except UmbelError:
            logger.exception("what follows from it cannot be settled either: task=%s id=%s", message.task, message.id)
        alone = Settlement(settlement.delivery, Action.DEAD_LETTER, reason=str(refusal))
        return self._repeat("settle", lambda: consumer.settle([alone], want))

    def _repeat(self, what: str, call: Callable[[], T]) -> T:
        backoff = _Backoff(what, self._closed)
        while True:
            try:
                return call()
            except OperationalError as error:
                if self._closed.is_set():
                    raise
                backoff.wait(error)


class _Backoff:
    """Waits between repeated calls: 0.05 s doubling to ``longest``, with jitter; says once that and why it waits."""

    _FIRST = 0.05
    _LONGEST = 2.0

    def __init__(self, what: str, stop: threading.Event, longest: float = _LONGEST) -> None:
        self.what = what
        self.stop = stop
        self.longest = min(longest, self._LONGEST)
        self.delay = 0.0

    def wait(self, error: OperationalError) -> None:
        if not self.delay:
            logger.warning("%s: the system cannot be reached, trying again: %s", self.what, error)
        self.delay = min(self.longest, self.delay * 2 or self._FIRST)
        self.stop.wait(self.delay * random.uniform(0.5, 1.0))

    def reset(self) -> None:
        if self.delay:
            logger.info("%s: the system is back", self.what)
        self.delay = 0.0
