"""Waiting for results in a database: one thread and one connection per process, whoever and however many wait.

The thread begins with the first who waits and ends some seconds after the last. It is woken by the database where
that can (see ``brokers.sql.wakeup``), asks for all that is waited for in one statement, and spends no more than
a tenth of its time asking for many. When its connection breaks it makes another, and nobody who waits notices, unless
the database stays away for as long as a statement may take.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection

from umbel.backends.base import READY_STATES, Meta
from umbel.backends.sql_results import Columns, ResultTable, Stand, stand_of
from umbel.brokers.sql.database import Database, Link
from umbel.brokers.sql.wakeup import Bell, Waiter, waiter_on
from umbel.errors import OperationalError, UmbelError

logger = logging.getLogger(__name__)

_IDLE = 5.0
_LONGEST_WAIT = 5.0
_PAUSES = (0.02, 0.5)
"""Seconds between attempts to reach a database that is away: the first, doubled until the last."""
_MANY = 100
Receiver = Callable[[Columns | OperationalError], bool]
"""Gets each new state of a task, or the error that ends the wait; true when it wants no more."""


class Watcher:
    """Tells receivers of changes of the tasks that they wait for. Safe for threads."""

    def __init__(self, database: Database, table: ResultTable, decode: Callable[[Columns], Meta]) -> None:
        self._database = database
        self._table = table
        self._decode = decode
        self._guard = threading.Lock()
        self._wanted: dict[str, list[Receiver]] = {}
        self._seen: dict[str, Stand] = {}
        self._new: set[str] = set()
        self._thread: threading.Thread | None = None
        self._bell: Bell | None = None
        self._closing = False
        self._away_since: float | None = None

    def wait(self, task_ids: Collection[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        """See :meth:`umbel.backends.base.Backend.wait`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        missing = set(task_ids)
        for row in self._read(missing):
            if row[1] in READY_STATES:
                missing.discard(row[0])
                on_meta(self._decode(row))
        if not missing or (timeout is not None and timeout <= 0):
            return not missing
        news: queue.SimpleQueue[Columns | OperationalError] = queue.SimpleQueue()

        def receive(found: Columns | OperationalError) -> bool:
            news.put(found)
            return isinstance(found, OperationalError) or found[1] in READY_STATES

        self._add(missing, receive)
        last: dict[str, Stand] = {}
        try:
            while missing:
                try:
                    found = news.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    return False
                if isinstance(found, OperationalError):
                    raise found
                if found[0] in missing and last.get(found[0]) != stand_of(found):
                    last[found[0]] = stand_of(found)
                    if found[1] in READY_STATES:
                        missing.discard(found[0])
                    on_meta(self._decode(found))
            return True
        finally:
            self._remove(missing, receive)

    def _read(self, task_ids: Collection[str]) -> list[Columns]:
        if not task_ids:
            return []

        def read(link: Link) -> list[Columns]:
            self._table.set_up(link)
            return self._table.read(link, task_ids)

        return self._database.read(read)

    def subscribe(self, task_id: str, on_meta: Callable[[Meta], object]) -> Callable[[], None]:
        """See :meth:`umbel.backends.base.Backend.subscribe`."""
        done = False

        def receive(found: Columns | OperationalError) -> bool:
            nonlocal done
            if done or isinstance(found, OperationalError) or found[1] not in READY_STATES:
                return done
            done = True
            on_meta(self._decode(found))
            return True

        self._add([task_id], receive)
        return lambda: self._remove([task_id], receive)

    def _add(self, task_ids: Collection[str], receiver: Receiver) -> None:
        with self._guard:
            for task_id in task_ids:
                self._wanted.setdefault(task_id, []).append(receiver)
                self._seen.pop(task_id, None)
                self._new.add(task_id)
            if self._thread is None:
                self._closing = False
                self._bell = Bell()
                self._thread = threading.Thread(target=self._run, name="umbel-sql-results", daemon=True)
                self._thread.start()
            elif self._bell is not None:
                self._bell.ring()

    def _remove(self, task_ids: Collection[str], receiver: Receiver) -> None:
        with self._guard:
            for task_id in task_ids:
                receivers = self._wanted.get(task_id, [])
                if receiver in receivers:
                    receivers.remove(receiver)
                if not receivers:
                    self._wanted.pop(task_id, None)
                    self._seen.pop(task_id, None)

    # -- the thread --

    def _run(self) -> None:
        bell = self._bell
        self._away_since = None
        pause = _PAUSES[0]
        while bell is not None and self._goes_on(bell):
            waiter: Waiter | None = None
            try:
                link = self._database.link(durable=False)
                try:
                    self._table.set_up(link)
                    waiter = waiter_on(link, bell, self._table.channel)
                    self._watch(waiter, bell)
                finally:
                    if waiter is not None:
                        waiter.close()
                    link.discard()
            except OperationalError as error:
                pause = self._broke(error, pause)
                time.sleep(pause)
            except UmbelError as error:
                logger.error("results cannot be waited for", extra={"database": self._database.shown}, exc_info=True)
                self._fail(OperationalError(str(error)))
                time.sleep(_PAUSES[1])

    def _broke(self, error: OperationalError, pause: float) -> float:
        """Seconds to wait before the next attempt; waits end once the database has been away for too long."""
        now = time.monotonic()
        if self._away_since is None:
            logger.info("the connection on which results are awaited broke: %s", error)
            self._away_since = now
            return _PAUSES[0]
        if now - self._away_since >= self._database.patience:
            self._fail(error)
        return min(2 * pause, _PAUSES[1])

    def _goes_on(self, bell: Bell) -> bool:
        """Whether the thread is still needed; if not it is no longer the watcher's."""
        with self._guard:
            if self._wanted and not self._closing:
                self._new.update(self._wanted)
                return True
            self._thread = self._bell = None
            bell.close()
            return False

    def _fail(self, error: OperationalError) -> None:
        """End the waits; subscriptions stay."""
        with self._guard:
            wanted = [(task_id, receiver) for task_id, found in self._wanted.items() for receiver in found]
        for task_id, receiver in wanted:
            if receiver(error):
                self._remove([task_id], receiver)

    def _watch(self, waiter: Waiter, bell: Bell) -> None:
        """Look and wait, until nobody has waited for a while."""
        idle_since = time.monotonic()
        asked: set[str] = set()
        while not self._closing:
            waiter.arm()
            bell.silence()
            with self._guard:
                asked = (asked | self._new) & self._wanted.keys()
                self._new.clear()
                if self._wanted:
                    idle_since = time.monotonic()
            if time.monotonic() - idle_since > _IDLE:
                return
            began = time.monotonic()
            if asked:
                self._look(waiter, asked)
                self._away_since = None
            spent = time.monotonic() - began
            heard = waiter.wait(_LONGEST_WAIT)
            if len(asked) > _MANY:
                time.sleep(min(0.2, spent * 10))
            if self._database.kind != "postgresql" or not heard or "" in heard:
                with self._guard:
                    asked = set(self._wanted)
            else:
                asked = {task_id for payload in heard for task_id in payload.split(" ")}

    def _look(self, waiter: Waiter, task_ids: Collection[str]) -> None:
        stands = self._table.stands(waiter.link, task_ids)
        with self._guard:
            changed = [task_id for task_id, stand in stands.items() if self._seen.get(task_id) != stand]
        if not changed:
            return
        waiter.busy()
        for row in self._table.read(waiter.link, changed):
            with self._guard:
                self._seen[row[0]] = stand_of(row)
                receivers = list(self._wanted.get(row[0], ()))
            for receiver in receivers:
                self._tell(row, receiver)

    def _tell(self, row: Columns, receiver: Receiver) -> None:
        try:
            finished = receiver(row)
        except Exception:
            logger.exception("a subscriber to a result failed", extra={"task_id": row[0]})
            finished = True
        if finished:
            self._remove([row[0]], receiver)

    def close(self) -> None:
        """End the thread; waits that are going on end with OperationalError."""
        with self._guard:
            self._closing = True
            thread, bell = self._thread, self._bell
            if bell is not None:
                bell.ring()
        self._fail(OperationalError("the result backend was closed"))
        if thread is not None and thread is not threading.current_thread():
            thread.join()
