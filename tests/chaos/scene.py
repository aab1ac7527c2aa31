"""A scene of chaos: workers and a client on one system, and the reckoning of what was lost or doubled.

The client sends tasks of ``apps.ledger`` in bulk, and one by one while something fails. The reckoning compares what
``delay()`` accepted with what the ledger says was run and with the results that are stored.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from umbel.errors import OperationalError
from umbel.message import new_id
from workers import Fleet, Ledger, WorkerProcess, fleet, imported, wait_for

LEASE = 2.0
"""Seconds of the leases in tests where the default of 5 s is not the point."""

SHORT_LEASE = {"UMBEL_WORKER_LEASE": str(LEASE), "UMBEL_WORKER_LEASE_RENEWAL": "0.4"}
MANY_CRASHES = {"UMBEL_WORKER_CRASH_LIMIT": "1000", "UMBEL_WORKER_DELIVERY_LIMIT": "1000"}
QUORUM = {"UMBEL_TASK_DEFAULT_QUEUE_TYPE": "quorum"}

FULL = os.environ.get("UMBEL_TEST_FULL") == "1"
"""Whether tests that have a long form run it: ``make chaos``."""

SEED = int(os.environ.get("UMBEL_TEST_SEED", "20240613"))


class Load:
    """A client. ``accepted``: ids of tasks that were sent without an error; ``refused``: ids of those that raised."""

    def __init__(self, tasks: ModuleType, dice: random.Random) -> None:
        self.tasks = tasks
        self.dice = dice
        self.accepted: list[str] = []
        self.refused: dict[str, OperationalError] = {}

    def duration(self) -> float:
        """5 to 50 ms, short ones more often."""
        return self.dice.triangular(0.005, 0.05, 0.005)

    def send_bulk(self, count: int, task: Any = None) -> None:
        """So many of ``task``, by default ``record``, in one round trip."""
        sent = self.tasks.app.send_many([(task or self.tasks.record).s(self.duration()) for _ in range(count)])
        self.accepted += [result.id for result in sent]

    def send(self, task: Any = None, *args: Any) -> str:
        """One task; by default ``record``. Returns its id, accepted or not."""
        task_id = new_id()
        try:
            (task or self.tasks.record).apply_async(args or (self.duration(),), task_id=task_id)
        except OperationalError as error:
            self.refused[task_id] = error
        else:
            self.accepted.append(task_id)
        return task_id

    @contextmanager
    def trickle(self, pause: float = 0.02) -> Iterator[None]:
        """Send one after the other, from a thread, while the block runs."""
        stop = threading.Event()

        def loop() -> None:
            while not stop.wait(pause):
                self.send()

        thread = threading.Thread(target=loop, name="client", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive(), "a call of delay() hangs"


class Scene:
    """What a test has: ``workers``, the ``tasks`` as its client sees them, ``load``, and ``dice`` with a fixed seed."""

    def __init__(self, workers: Fleet, tasks: ModuleType) -> None:
        self.workers = workers
        self.tasks = tasks
        self.dice = random.Random(SEED)
        self.load = Load(tasks, random.Random(SEED))
        print(f"UMBEL_TEST_SEED={SEED}")

    @property
    def ledger(self) -> Ledger:
        return self.workers.ledger

    @property
    def broker(self) -> Any:
        return self.tasks.app.broker

    def start(self, *arguments: str, ready: bool = True, app: str = "apps.ledger") -> WorkerProcess:
        """Start a worker with two executors, under a name of its own; ``ready``: wait until it consumes."""
        name = f"worker{len(self.workers.workers)}@%h"
        return self.workers.start("-c", "2", "-n", name, *arguments, ready=ready, app=app)

    def await_ended(self, more: int, timeout: float = 15.0) -> None:
        """Until so many executions more have ended."""
        goal = sum(self.ledger.ended().values()) + more
        wait_for(lambda: sum(self.ledger.ended().values()) >= goal, timeout, f"{more} more executions")

    def await_begun_after(self, moment: float, timeout: float) -> None:
        """Until an execution began after ``moment`` (Unix time)."""

        def goes_on() -> bool:
            return any(entry.event == "begin" and entry.at > moment for entry in self.ledger.entries())

        wait_for(goes_on, timeout, "work goes on")

    def await_all(self, timeout: float = 20.0) -> None:
        """Until every accepted task has been run, every result can be read, and nothing is left in the queue."""
        accepted = set(self.load.accepted)
        try:
            wait_for(lambda: accepted <= self.ledger.ended().keys(), timeout, "all that was accepted has been run")
        except AssertionError as error:
            missing = sorted(accepted - self.ledger.ended().keys())
            raise AssertionError(f"{error}; of {len(accepted)}, {len(missing)} were not run: {missing[:5]}") from None
        wait_for(lambda: not self.unread(), 5, "every result can be read")
        wait_for(self.is_settled, 5, "nothing is left in the queue")

    def unread(self) -> list[str]:
        """Accepted tasks whose result is not the one that they returned."""
        metas = self.tasks.app.backend.get(self.load.accepted)
        return [
            task_id
            for task_id in self.load.accepted
            if task_id not in metas or (metas[task_id].status, metas[task_id].result) != ("SUCCESS", task_id)
        ]

    def is_settled(self) -> bool:
        size = self.broker.size("celery")
        return size.ready <= 0 and size.held <= 0 and size.delayed <= 0

    def doubled(self) -> set[str]:
        return {task_id for task_id, count in self.ledger.begun().items() if count > 1}

    def assert_only_doubled(self, allowed: Collection[str] = ()) -> None:
        """Nothing ran that was not sent, nothing but ``allowed`` ran twice, nothing was set aside."""
        known = set(self.load.accepted) | self.load.refused.keys()
        unknown = self.ledger.begun().keys() - known
        assert not unknown, f"ran, but was never sent: {sorted(unknown)[:5]}"
        doubled = self.doubled()
        print(f"{len(known)} tasks, {len(self.load.refused)} refused, {len(doubled)} doubled; allowed: {len(allowed)}")
        wrong = doubled - set(allowed)
        lines = [entry for entry in self.ledger.entries() if entry.id in wrong]
        assert not wrong, f"{len(wrong)} ran twice without need: {lines[:12]}"
        assert self.broker.dead_letters("celery") == []


@contextmanager
def open_scene(
    directory: Path, broker: str, backend: str, environment: Mapping[str, str], *, client: str = ""
) -> Iterator[Scene]:
    """A scene in which workers use ``broker`` and ``backend``; ``client`` is the broker's URL for the client."""
    with fleet(directory, broker, backend, **environment) as workers:
        here = workers.environment | ({"LEDGER_BROKER": client} if client else {})
        try:
            with imported("apps.ledger", here) as tasks:
                yield Scene(workers, tasks)
        finally:
            show_logs(workers)


def show_logs(workers: Fleet) -> None:
    """What pytest shows of a failed test."""
    for worker in workers.workers:
        lines = [line for line in worker.output().splitlines() if "umbel.task: task succeeded" not in line]
        print(f"--- {worker.log.name}", *lines[-60:], sep="\n")


def takeover(ledger: Ledger, ids: Collection[str], pids: Collection[int], moment: float) -> float:
    """Seconds after ``moment`` until the last of ``ids`` was begun by a process other than ``pids``."""
    begun: dict[str, float] = {}
    for entry in ledger.entries():
        if entry.event == "begin" and entry.id in ids and entry.pid not in pids:
            begun.setdefault(entry.id, entry.at)
    missing = set(ids) - begun.keys()
    assert not missing, f"never taken over: {missing}"
    return max(begun.values(), default=moment) - moment


def await_moment(seconds: float) -> None:
    """Until ``seconds`` have passed: for faults that have to last."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= end, seconds + 1)
