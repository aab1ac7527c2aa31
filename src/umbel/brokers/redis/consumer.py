"""A worker's hold on queues in Redis: claim, settle, renew, and what to do when an answer got lost.

One call of one script is one batch. Tags are ``<list index>:<number>``, numbers given out here, so that a claim whose
answer never came can be asked for; each call is numbered, so that it can be found out whether it was done.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from umbel.brokers.base import Action, Consumer, Delivery, Settled, Settlement
from umbel.brokers.redis.adoption import SOON, Adoption, Landed, Lease, read_delivery
from umbel.brokers.redis.keys import STEPS, Source, step_of
from umbel.brokers.redis.lease_scripts import BEGIN, END, RECOVER, RENEW
from umbel.brokers.redis.scripts import CLAIM, SETTLE
from umbel.brokers.redis.settling import Settling
from umbel.brokers.redis.wake import Wakes, Woken
from umbel.errors import OperationalError
from umbel.message import Message, new_id
from umbel.queues import Queue

if TYPE_CHECKING:
    from umbel.brokers.redis.broker import RedisBroker

log = logging.getLogger(__name__)

LOOK_EVERY = 0.3
"""Seconds between looks at lists that nobody waits at, and of whose messages nobody tells."""

IDLE_LOOK_EVERY, IDLE_AFTER = 0.6, 10
"""The same once so many looks in a row have found nothing."""

MOST_WAITS = 16
"""How many queues an idle consumer waits at, each with a connection; at the others it looks."""

QUIET = 0.0005
"""When a message landed only after so many seconds of waiting, its queue had been empty: the next receive waits for
more without another look, as it does when none came."""

REVERSE_EVERY = 16
"""Every so many claims begin with the lowest priority, so that it is never starved."""


class Lost(Struct, frozen=True):
    """A call whose answer did not come. ``kind``: ``claims`` or ``settles``; what it claimed has the tags from
    ``first`` to before ``end``, what it settled ``tags``. ``landed``: what it was to adopt."""

    lease: Lease
    kind: str
    number: int
    first: int
    end: int
    tags: tuple[Any, ...] = ()
    landed: Landed | None = None


class RedisConsumer(Consumer):
    """See :class:`Consumer`. Uses a connection per thread that calls it, and one per watched list while idle."""

    def __init__(self, broker: RedisBroker, queues: Sequence[Queue], name: str, lease: float) -> None:
        self._broker = broker
        self._links = broker.links
        self._keys = broker.keys
        self._name = name
        self._seconds = lease
        self._queues = list({queue.name: queue for queue in queues}.values())
        self._lists = [
            Source(self._keys.ready(queue.name, step), queue.name, step) for queue in self._queues for step in STEPS
        ]
        self._indexes = {(place.queue, place.step): index for index, place in enumerate(self._lists)}
        self._orders = self._all_orders()
        self._watched = [index for index, place in enumerate(self._lists) if not place.step][:MOST_WAITS]
        self._quiet = False
        self._wakes = Wakes(broker.links.server)
        self._receiving = threading.Lock()
        self._settling_now = threading.Lock()
        self._lock = threading.Lock()
        self._numbering = threading.Lock()
        self._claims = 0
        self._settles = 0
        self._next_tag = 0
        self._turn = 0
        self._lost: list[Lost] = []
        self._found: list[Delivery] = []
        self._concluded: dict[Any, bool] = {}
        self._look_at = 0.0
        self._in_vain = 0
        self._dead: Lease | None = None
        self._adoption = Adoption(self._links, self._lists)
        self._closed = False
        self._settling = Settling(broker)
        for queue in self._queues:
            broker.declare(queue)
        self._lease = self._begin()

    @property
    def id(self) -> str:
        """The name under which the server knows this consumer; changes with a new lease."""
        return self._lease.id

    # -- the order of claiming --

    def _all_orders(self) -> list[tuple[Any, ...]]:
        """The claim part's tail for each turn: queues rotated, and once in a while all backwards."""
        steps = STEPS if self._broker.options.lowest_priority_first else STEPS[::-1]
        count = len(self._queues)
        orders: list[tuple[Any, ...]] = []
        for turn, reverse in itertools.product(range(count), (False, True)):
            rotated = [self._queues[(turn + offset) % count].name for offset in range(count)]
            delayed = [part for name in rotated for part in (self._keys.delayed(name), self._keys.ready(name, 0))]
            places = [
                (index, place.key)
                for step in (reversed(steps) if reverse else steps)
                for name in rotated
                for index, place in enumerate(self._lists)
                if place.queue == name and place.step == step
            ]
            orders.append((count, *delayed, *itertools.chain.from_iterable(places)))
        return orders

    def _order(self) -> tuple[Any, ...]:
        self._turn += 1
        reverse = self._turn % REVERSE_EVERY == 0
        return self._orders[2 * (self._turn % len(self._queues)) + reverse]

    def _claim_part(self, lease: Lease, call: int, first: int, limit: int, landings: Collection[int]) -> list[Any]:
        landed: list[Any] = []
        for index in landings:
            landed += (index, lease.landings[index], self._lists[index].key)
        order = self._order()
        stop = 10 + len(landed) + len(order)
        return [*lease.head, call, first, limit, stop, len(landings), *landed, *order]

    def _reserve(self, count: int) -> int:
        with self._numbering:
            first = self._next_tag
            self._next_tag += count
            return first

    # -- receiving --

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        deadline = time.monotonic() + timeout
        with self._receiving:
            if self._closed:
                return []
            self._recover()
            if not (self._quiet and self._adoption.deferred):
                self._adoption.conclude(self._wakes)
            found = self._take_found(limit)
            if found or limit <= 0:
                return found
            return self._wait(limit, deadline)

    def _take_found(self, limit: int) -> list[Delivery]:
        with self._lock:
            found, self._found = self._found[:limit], self._found[limit:]
        return found

    def _wait(self, limit: int, deadline: float) -> list[Delivery]:
        """Claim, and while there is nothing, sleep until there may be. No wait outlives the call, so that nothing
        lands here while others are idle."""
        lease = self._lease
        woken = Woken.NOT if self._quiet else Woken.HINT
        began = time.monotonic()
        while not self._closed and self._lease is lease:
            if woken is Woken.LANDED:
                self._quiet = False
                self._adoption.conclude(self._wakes)
                self._quiet = time.monotonic() - began > QUIET
                first = self._reserve(len(self._wakes.landed))
                return self._adoption.begin(lease, self._wakes, limit, first)
            if woken is Woken.HINT or time.monotonic() >= self._look_at:
                self._quiet = False
                claimed = self._claim(lease, limit)
                if claimed:
                    return claimed + self._stop_waiting(lease, limit - len(claimed))
            rest = deadline - time.monotonic()
            if rest <= 0 or self._wakes.take_interrupt():
                return self._stop_waiting(lease, limit)
            if lease is self._dead:
                self._stop_waiting(lease, 0)
            else:
                self._send_waits(lease)
            deferred = self._adoption.deferred
            rest = min(rest, max(0.0, self._look_at - time.monotonic()))
            woken = self._wakes.sleep(min(rest, SOON) if deferred else rest)
            if deferred and woken is Woken.NOT:
                self._adoption.finish()
        return self._stop_waiting(lease, 0)

    def _send_waits(self, lease: Lease) -> None:
        for index in self._watched:
            source = self._lists[index]
            channel = "" if source.step else self._keys.delayed(source.queue)
            self._wakes.wait_for(index, source.key, lease.landings[index], channel)

    def _stop_waiting(self, lease: Lease, limit: int) -> list[Delivery]:
        """End all waits and adopt what they landed until then; what is beyond ``limit`` goes back."""
        self._quiet = False
        if not self._wakes.waiting:
            return []
        claimed = self._claim(lease, limit, unblock=True)
        self._quiet = limit > 0 and not claimed and self._wakes.silent
        return claimed

    def _claim(self, lease: Lease, limit: int, unblock: bool = False) -> list[Delivery]:
        self._adoption.conclude(self._wakes)
        self._claims += 1
        call, first = self._claims, self._reserve(limit)
        part = self._claim_part(lease, call, first, limit, self._wakes.landable)
        try:
            reply = self._links.run(CLAIM, part, before=self._wakes.unblock() if unblock else ())
        except OperationalError:
            self._wakes.reset()
            with self._lock:
                self._lost.append(Lost(lease, "claims", call, first, first + limit))
            raise
        if unblock:
            self._wakes.collect()
        self._wakes.adopted()
        due = b""
        if reply[0] == 1:
            due = reply[1]
        elif reply[0] == 0:
            self._dead = lease
        claimed = self._deliveries(reply, 2, first) if reply[0] == 1 else []
        self._in_vain = 0 if claimed else self._in_vain + 1
        pause = LOOK_EVERY if self._in_vain < IDLE_AFTER else IDLE_LOOK_EVERY
        self._look_at = time.monotonic() + (min(pause, float(due) + 0.001) if due else pause)
        return claimed

    def _deliveries(self, reply: list[Any], at: int, number: int) -> list[Delivery]:
        """What a script claimed: list indexes and envelopes in turn, from ``reply[at]`` on."""
        claimed: list[Delivery] = []
        for position in range(at, len(reply), 2):
            index: int = reply[position]
            queue = self._lists[index].queue
            for envelope in reply[position + 1]:
                claimed.append(read_delivery(f"{index}:{number}", queue, envelope))
                number += 1
        return claimed

    # -- settling --

    def keep(self, message: Message) -> Delivery | None:
        index = self._indexes.get((message.queue, step_of(message.priority)))
        if index is None or self._closed:
            return None
        message = msgspec.structs.replace(
            message,
            routing_key=message.routing_key or message.queue,
            correlation_id=message.correlation_id or message.id,
        )
        return Delivery(f"{index}:{self._reserve(1)}", message.queue, message)

    def settle(self, settlements: Sequence[Settlement], want: int = 0) -> Settled:
        with self._settling_now:
            return self._settle(settlements, want)

    def _settle(self, settlements: Sequence[Settlement], want: int) -> Settled:
        self._recover()
        if self._found and not want:
            self._wakes.interrupt()
        stale: list[Settlement] = []
        pending: Sequence[Settlement] = settlements
        if self._concluded:
            pending = self._not_yet_done(settlements, stale)
        found = self._take_found(want) if self._found else []
        want -= len(found)
        if not pending and want <= 0:
            return Settled(found, stale)
        lease = self._lease
        try:
            reply, first = self._adoption.tell(lambda landed: self._call_settle(lease, pending, want, landed))
        except OperationalError:
            with self._lock:
                self._found = found + self._found
            raise
        if reply[0] != 1:
            if reply[0] == 0:
                self._dead = lease
            return Settled(found, [*stale, *pending])
        stale += [pending[position] for position in reply[1]]
        return Settled(found + self._deliveries(reply, 3, first), stale)

    def _call_settle(
        self, lease: Lease, pending: Sequence[Settlement], want: int, landed: Landed | None
    ) -> tuple[list[Any], int]:
        """The script's answer, and the first tag of what it claimed."""
        if landed is not None and landed.lease is lease:
            body = self._settling.arguments(pending, self._lists, landed.adopted, landed.asked)
        else:
            body = self._settling.arguments(pending, self._lists)
        self._settles += 1
        call = self._settles
        if want > 0:
            first = self._reserve(want)
            part = self._claim_part(lease, call, first, want, ())
        else:
            first, want = self._next_tag, 0
            part = [*lease.head, call, first, 0, 10, 0]
        try:
            return self._links.run(SETTLE, part + body), first
        except OperationalError:
            tags = tuple(settlement.delivery.tag for settlement in pending)
            with self._lock:
                self._lost.append(Lost(lease, "settles", call, first, first + want, tags, landed))
            raise

    def _not_yet_done(self, settlements: Sequence[Settlement], stale: list[Settlement]) -> list[Settlement]:
        """What a call with a lost answer has not done; adds to ``stale`` what that call found to be so."""
        with self._lock:
            concluded, self._concluded = self._concluded, {}
        pending: list[Settlement] = []
        for settlement in settlements:
            was_stale = concluded.get(settlement.delivery.tag)
            if was_stale is None:
                pending.append(settlement)
            elif was_stale:
                stale.append(settlement)
        return pending

    # -- lost answers --

    def _recover(self) -> None:
        """Find out about calls whose answers were lost: what they claimed, and what they settled."""
        if not self._lost:
            return
        known: list[Landed] = []
        with self._lock:
            lease = self._lease
            lost = [call for call in self._lost if call.lease is lease]
            arguments: list[Any] = [*lease.head]
            for call in lost:
                arguments += (call.kind, call.number, call.first, call.end)
            reply: list[Any] = self._links.run(RECOVER, arguments) if lost else [0]
            self._lost.clear()
            if reply[0] != 1:
                return
            for call, done, stale in zip(lost, reply[1][::2], reply[1][1::2], strict=True):
                positions = {int(position) for position in stale.split()}
                if done:
                    known += [call.landed] if call.landed is not None else []
                    self._concluded |= {tag: number in positions for number, tag in enumerate(call.tags)}
            entries = reply[2]
            for tag, envelope in zip(entries[::2], entries[1::2], strict=True):
                text = tag.decode()
                self._found.append(read_delivery(text, self._lists[int(text.partition(":")[0])].queue, envelope))
        for landed in known:
            self._adoption.forget(landed)

    def _return_found(self) -> None:
        """What a lost answer claimed and nobody has asked for since goes back to its queue, uncounted."""
        self._recover()
        found = self._take_found(sys.maxsize)
        if found:
            self.settle([Settlement(delivery, Action.REQUEUE) for delivery in found])

    # -- the lease --

    def _begin(self) -> Lease:
        """Begin a new lease. Raises OperationalError, BrokerError."""
        keys, id = self._keys, new_id()
        lists = msgspec.json.encode([(place.key, place.queue, place.step) for place in self._lists])
        self._links.run(BEGIN, (keys.prefix, id, self._seconds, lists, self._name))
        return Lease(
            id=id,
            head=(keys.consumers, keys.consumer(id), keys.held(id), id),
            landings=tuple(keys.landing(id, index) for index in range(len(self._lists))),
        )

    def renew(self) -> bool:
        if self._closed:
            return True
        options = self._broker.options
        lease = self._lease
        self._recover()
        self._adoption.finish()
        arguments = (self._keys.prefix, lease.id, self._seconds, options.delivery_limit, options.dead_letter_expires)
        if self._links.run(RENEW, arguments, self._seconds):
            if self._lost or self._found:
                self._return_found()
            return True
        fresh = self._begin()
        with self._lock:
            self._lost.clear()
            self._found.clear()
            self._concluded.clear()
            self._lease = fresh
        self._adoption.drop()
        self._wakes.interrupt()
        return False

    def interrupt(self) -> None:
        self._wakes.interrupt()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._wakes.interrupt()
        with self._receiving:
            self._wakes.close()
            try:
                self._adoption.finish()
                self._links.run(END, (self._keys.prefix, self._lease.id, int(self._wakes.broke)))
                self._delete_own_queues()
            except OperationalError as error:
                log.warning("consumer not ended, its lease runs out in %g s: %s", self._seconds, error)

    def _delete_own_queues(self) -> None:
        for queue in self._queues:
            if queue.auto_delete and not self._broker.is_consumed(queue.name):
                self._broker.delete(queue.name)
