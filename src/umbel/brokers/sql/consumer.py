"""One worker's hold on queues: claiming, renewing, giving back. What settling does is in ``settling``."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeVar

from umbel.brokers.base import Action, Consumer, Delivery, Settled, Settlement
from umbel.brokers.sql.database import Link
from umbel.brokers.sql.faults import Conflict
from umbel.brokers.sql.rows import Row, deliveries_of, place
from umbel.brokers.sql.settling import Holds, settle_batch
from umbel.brokers.sql.wakeup import Bell, Waiter, waiter_on
from umbel.errors import OperationalError
from umbel.queues import Queue

if TYPE_CHECKING:
    from umbel.brokers.sql.broker import SQLBroker

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PROMOTE_EVERY = 0.05
"""Seconds between looks for due messages while there is other work."""
_UNSURE = 2.0
"""Seconds after a lost answer within which its transaction may still commit."""
_LONGEST_WAIT = 30.0
_SWEEP_EVERY = 60.0
_PUBLISHERS_KEPT = 86400.0


class SQLConsumer(Consumer):
    """See :class:`Consumer`. Three links, one for each thread; claims of two threads take turns."""

    def __init__(self, broker: SQLBroker, queues: Sequence[Queue], name: str, lease: float) -> None:
        self._broker = broker
        self._dialect = broker.dialect
        self._queues = list(queues)
        self._names = list(dict.fromkeys(queue.name for queue in queues))
        self._name = name
        self._lease = lease
        self._bell = Bell()
        self._claiming = threading.Lock()
        self._closed = False
        self._receiving = _Line(broker, lease)
        self._settling = _Line(broker, lease)
        self._renewing = _Line(broker, lease)
        self._waiter: Waiter | None = None
        self._promote_at = 0.0
        self._swept_at = time.monotonic()
        self._unsure_until = 0.0
        """Until when (monotonic seconds) a transaction whose answer was lost may commit; 0.0: nothing was lost."""
        self._holds = Holds(self._receiving.use(self._begin_lease))

    def _begin_lease(self, link: Link) -> int:
        lease = self._dialect.begin_lease(link, self._name, self._lease)
        for queue in self._queues:
            owned = queue.auto_delete or queue.exclusive
            self._broker.routes.declare(link, queue, owner=lease if owned else None)
        return lease

    # -- receiving --

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        deadline = time.monotonic() + timeout
        try:
            return self._receiving.use(lambda link: self._receive(link, limit, deadline))
        except OperationalError:
            self._unsure_until = time.monotonic() + _UNSURE
            if self._receiving.broken:
                self._forget_waiter()
            raise

    def _receive(self, link: Link, limit: int, deadline: float) -> list[Delivery]:
        waiter = self._waiter
        if waiter is None or waiter.link is not link:
            self._forget_waiter()
            waiter = self._waiter = waiter_on(link, self._bell, getattr(self._dialect, "channel", ""))
        armed = False
        while not self._closed:
            deliveries = self._claim(link, limit)
            if deliveries:
                waiter.busy()
                if len(deliveries) >= limit and not armed:
                    waiter.deafen()
                return deliveries
            rest = deadline - time.monotonic()
            if self._bell.silence() or rest <= 0:
                return []
            if armed:
                waiter.wait(max(0.0, min(rest, self._next_look(link))))
                self._promote_at = 0.0
            waiter.arm()
            armed = True
        return []

    def _next_look(self, link: Link) -> float:
        """Seconds until something happens of itself."""
        due = None if link.database.kind == "mysql" else self._dialect.next_due(link)
        nearest = _LONGEST_WAIT if due is None else min(due, _LONGEST_WAIT)
        return min(nearest, 0.1) if time.monotonic() < self._unsure_until else nearest

    def _claim(self, link: Link, limit: int) -> list[Delivery]:
        with self._claiming:
            unheard = self._unheard(link, limit)
            if unheard:
                return self._told(unheard)
            if link.database.kind != "postgresql" and not self._dialect.work_waits(link, self._names):
                return []
            with nullcontext() if link.database.kind == "postgresql" else link.transaction():
                rows = self._pick(link, limit)
            return self._told(rows)

    def _pick(self, link: Link, limit: int) -> list[Row]:
        moment = time.monotonic()
        if moment >= self._promote_at:
            self._dialect.promote(link)
            self._promote_at = moment + _PROMOTE_EVERY
        return self._dialect.claim(link, self._holds.lease, self._names, limit)

    def _told(self, rows: Sequence[Row]) -> list[Delivery]:
        return deliveries_of(rows, self._holds.lease, self._holds.tell(row[0] for row in rows))

    def _unheard(self, link: Link, limit: int) -> list[Row]:
        """What a lost answer claimed."""
        if not self._unsure_until:
            return []
        rows = [row for row in self._dialect.held(link, self._holds.lease) if row[0] not in self._holds.told]
        return sorted(rows, key=place)[:limit]

    def _return_unheard(self, link: Link) -> None:
        """What a lost answer claimed and nobody has asked for since goes back to its queue, uncounted."""
        with self._claiming:
            unheard = self._told(self._unheard(link, sys.maxsize))
            self._unsure_until = 0.0
            if unheard:
                back = [Settlement(delivery, Action.REQUEUE) for delivery in unheard]
                settle_batch(link, self._broker, self._holds, back, list[Row])

    def _forget_waiter(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.close()

    def interrupt(self) -> None:
        self._bell.ring()

    # -- settling --

    def settle(self, settlements: Sequence[Settlement], want: int = 0) -> Settled:
        with self._claiming:
            unsure = self._holds.in_doubt
            try:
                stale, rows = self._settling.use(lambda link: self._settle(link, settlements, want))
            except OperationalError:
                unsure = True
                raise
            finally:
                if unsure:
                    self._unsure_until = time.monotonic() + _UNSURE
            return Settled(self._told(rows), stale)

    def _settle(self, link: Link, settlements: Sequence[Settlement], want: int) -> tuple[list[Settlement], list[Row]]:
        pick = (lambda: self._pick(link, want)) if want > 0 and not self._closed else list[Row]
        return settle_batch(link, self._broker, self._holds, settlements, pick)

    # -- the lease --

    def renew(self) -> bool:
        return self._renewing.use(self._renew)

    def _renew(self, link: Link) -> bool:
        with link.transaction():
            kept = self._dialect.prolong_lease(link, self._holds.lease, self._lease)
            if self._dialect.reap(link, self._broker.options.delivery_limit):
                self._dialect.announce(link)
        if kept and 0.0 < self._unsure_until < time.monotonic():
            self._return_unheard(link)
        if time.monotonic() - self._swept_at > _SWEEP_EVERY:
            self._sweep(link)
        if kept or self._closed:
            return kept
        lease = self._begin_lease(link)
        with self._claiming:
            self._holds = Holds(lease)
        return False

    def _sweep(self, link: Link) -> None:
        """Remove what nobody else removes: old dead letters, rows of publishers long gone, queues without owner."""
        self._swept_at = time.monotonic()
        self._broker.drop_expired_dead(link)
        sql = "DELETE FROM {p}publishers WHERE moment < {now} - %s"
        link.run(self._dialect.sql(sql), (_PUBLISHERS_KEPT,))
        sql = "SELECT name FROM {p}queues WHERE owner IS NOT NULL AND owner NOT IN (SELECT id FROM {p}consumers)"
        for row in link.rows(self._dialect.sql(sql)):
            self._broker.delete(row[0])

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._bell.ring()
        try:
            with self._claiming:
                self._give_back()
        finally:
            self._settling.close()
            self._renewing.close()
            self._receiving.close()
            self._forget_waiter()

    def _give_back(self) -> None:
        """End the lease, over a new connection if the old one is gone."""
        for last in (False, True):
            try:
                self._renewing.use(self._end)
                return
            except OperationalError as error:
                if last:
                    logger.warning(
                        "a consumer could not give back what it holds; others take it over when its lease has run out",
                        extra={"consumer": self._name, "error": str(error)},
                    )

    def _end(self, link: Link) -> None:
        with link.transaction():
            self._dialect.end_lease(link, self._holds.lease)
            self._dialect.announce(link)
        sql = "SELECT name FROM {p}queues WHERE owner = %s"
        for row in link.rows(self._dialect.sql(sql), (self._holds.lease,)):
            self._broker.delete(row[0])


class _Line:
    """The link of one of a consumer's threads: made on first use, dropped when it breaks."""

    def __init__(self, broker: SQLBroker, lease: float) -> None:
        self._broker = broker
        self._lease = lease
        self._link: Link | None = None
        self._guard = threading.Lock()

    @property
    def broken(self) -> bool:
        return self._link is None

    def use(self, action: Callable[[Link], T]) -> T:
        """``action`` with the link, repeated when another transaction got in its way.

        Raises what it raises, Conflict after the database's patience only.
        """
        deadline = time.monotonic() + self._broker.database.patience
        with self._guard:
            while True:
                try:
                    return action(self._connected())
                except Conflict:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.002)
                except OperationalError:
                    self._drop()
                    raise

    def _connected(self) -> Link:
        if self._link is None:
            link = self._broker.database.link(durable=False)
            try:
                self._broker.set_up(link)
                self._broker.dialect.limit_idleness(link, self._lease)
            except OperationalError:
                link.discard()
                raise
            self._link = link
        return self._link

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.discard()

    def close(self) -> None:
        """Close the link once nobody uses it."""
        with self._guard:
            self._drop()
