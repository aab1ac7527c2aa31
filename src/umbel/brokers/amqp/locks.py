"""Locks: an exclusive queue ``umbel.lock.<name>`` that its holder's connection owns.

The broker refuses it to every other connection. It goes with the connection, at once when the holder dies, and by its
own ``x-expires`` when the holder has not renewed it for ``ttl`` seconds. All locks of one broker object share a
connection, so among themselves they are kept apart by a table in this process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from umbel.brokers.amqp.channels import LOCKED, NOT_FOUND, PRECONDITION_FAILED, Refused, channel
from umbel.brokers.amqp.session import Session
from umbel.brokers.amqp.topology import declare_queue, delete_queue, ready_count
from umbel.brokers.base import Lock


class Holders:
    """Who in this process holds which lock, on which connection and until when (``time.monotonic``)."""

    def __init__(self) -> None:
        self.guard = threading.RLock()
        self.by_name: dict[str, tuple[AMQPLock, Session, float]] = {}

    def holder(self, name: str) -> AMQPLock | None:
        """Who holds a lock now. The caller holds ``guard``."""
        found = self.by_name.get(name)
        if found is None:
            return None
        lock, session, until = found
        return lock if session.alive and time.monotonic() < until else None


class AMQPLock(Lock):
    """See the module's docstring."""

    def __init__(self, session: Callable[[], Session], holders: Holders, name: str, ttl: float, timeout: float) -> None:
        self._session = session
        self._holders = holders
        self._name = name
        self._queue = f"umbel.lock.{name}"
        self._ttl = ttl
        self._timeout = timeout

    def acquire(self) -> bool:
        with self._holders.guard:
            holder = self._holders.holder(self._name)
            if holder is self:
                return self.renew()
            if holder is not None:
                return False
            return self._claim()

    def _claim(self) -> bool:
        session = self._session()
        asked = time.monotonic()
        arguments = {"x-expires": max(1, int(self._ttl * 1000))}
        try:
            with channel(session, self._timeout) as opened:
                if self._name in self._holders.by_name:
                    delete_queue(opened, self._queue)
                declare_queue(opened, self._queue, arguments, durable=False, exclusive=True)
        except Refused as refusal:
            if refusal.code in (LOCKED, PRECONDITION_FAILED):
                self._holders.by_name.pop(self._name, None)
                return False
            raise
        self._holders.by_name[self._name] = (self, session, asked + self._ttl)
        return True

    def renew(self) -> bool:
        with self._holders.guard:
            if self._holders.holder(self._name) is not self:
                return False
            _, session, _ = self._holders.by_name[self._name]
            asked = time.monotonic()
            if self._count(session) is None:
                del self._holders.by_name[self._name]
                return False
            self._holders.by_name[self._name] = (self, session, asked + self._ttl)
            return True

    def _count(self, session: Session) -> Any:
        """Asking for the queue renews its expiry; None when it is gone."""
        try:
            with channel(session, self._timeout) as opened:
                return ready_count(opened, self._queue)
        except Refused as refusal:
            if refusal.code in (LOCKED, NOT_FOUND):
                return None
            raise

    def release(self) -> None:
        with self._holders.guard:
            if self._holders.holder(self._name) is not self:
                return
            _, session, _ = self._holders.by_name.pop(self._name)
            with channel(session, self._timeout) as opened:
                delete_queue(opened, self._queue)
