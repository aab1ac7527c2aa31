"""A pool under load that never stops, the harm that is done to it, and the reckoning afterwards.

The load is of sync and async tasks and some that run at most once. The reckoning: everything was done; only what a
killed process may not have reported was done twice, and nothing that runs at most once; tasks that were to end
otherwise did so; and when all workers have stopped no process or socket is left.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from chaos.scene import SEED, Load, Scene
from conformance.pool.pools import PoolCase
from processes import runs, still_running
from umbel.errors import WorkerLostError
from workers import Fleet, WorkerProcess, wait_for

TIMEOUT = 60

UNREPORTED = 0.1
"""Seconds before its process was killed within which an ended task of several lanes may not have been reported yet."""

UNSETTLED = 1.0
"""The same for a whole worker that was killed."""

COME_AND_GO = (0, 0, 3)
"""By so many the supervisor's threads and descriptors differ from moment to moment: connections."""

COME_AND_GO_ELSEWHERE = (0, 2, 12)
"""The same on other systems than Redis, whose connections have threads or several files, and are made when needed; and
with ``solo``, where the lane's are among them."""


class MixedLoad(Load):
    """Four of ten tasks are async; one of ten runs at most once, and is in ``once`` as well as in ``accepted``."""

    def __init__(self, tasks: ModuleType, dice: random.Random) -> None:
        super().__init__(tasks, dice)
        self.once: set[str] = set()

    def send(self, task: Any = None, *args: Any) -> str:
        task = task or self._any()
        task_id = super().send(task, *args)
        if task is self.tasks.record_at_most_once:
            self.once.add(task_id)
        return task_id

    def send_bulk(self, count: int, task: Any = None) -> None:
        chosen = [task or self._any() for _ in range(count)]
        sent = self.tasks.app.send_many([each.s(self.duration()) for each in chosen])
        self.accepted += [result.id for result in sent]
        self.once |= {result.id for each, result in zip(chosen, sent, strict=True) if each.acks_late is False}

    def _any(self) -> Any:
        tasks = self.tasks
        return self.dice.choices([tasks.record, tasks.record_async, tasks.record_at_most_once], [5, 4, 1])[0]


class Stage(Scene):
    """``rounds``: how often the harm is done. ``arguments``: of every worker that is started."""

    load: MixedLoad

    def __init__(
        self, workers: Fleet, tasks: ModuleType, pool: PoolCase, rounds: int, arguments: tuple[str, ...]
    ) -> None:
        super().__init__(workers, tasks)
        self.load = MixedLoad(tasks, random.Random(SEED))
        self.pool = pool
        self.rounds = rounds
        self.arguments = arguments
        self.doomed: dict[str, tuple[Any, str]] = {}
        self.run_directory = Path(workers.environment["UMBEL_RUNTIME_DIR"])

    @property
    def worker(self) -> WorkerProcess:
        """The one that was started last."""
        return self.workers.workers[-1]

    @property
    def directory(self) -> Path:
        return self.workers.directory

    def start_worker(self) -> WorkerProcess:
        name = f"worker{len(self.workers.workers)}@%h"
        return self.workers.start("-n", name, *self.arguments, app="apps.disturbed")

    def doom(self, result: Any, state: str) -> Any:
        """This one is to end in that state."""
        self.doomed[result.id] = result, state
        return result

    @contextmanager
    def under_load(self) -> Iterator[None]:
        """Work is queued, and more comes, from before the block until after it."""
        self.load.send_bulk(30 * self.pool.size)
        with self.load.trickle(0.06 if self.pool.size == 1 else 0.02):
            self.await_ended(5 * self.pool.size)
            yield
            self.await_ended(5)

    # -- the reckoning --

    def reckon(self, *, kills: bool, vanishing: bool) -> None:
        """``kills``: processes were killed; ``vanishing``: whole workers were, so that what runs at most once may be
        gone without a trace."""
        accepted, once = set(self.load.accepted), self.load.once
        assert not self.load.refused
        self._await_done(accepted - once)
        for result, state in self.doomed.values():
            wait_for(result.ready, TIMEOUT, f"{result.id} has ended")
            assert result.state == state, result
        excused = self._in_doubt(vanishing=vanishing) if kills else set[str]()
        if vanishing:
            excused |= once - self.ledger.begun().keys()
        if kills:
            excused |= self._await_ended_or_failed(once - excused)
        else:
            self._await_done(once)
        wait_for(self.is_settled, TIMEOUT, "nothing is left in the queue")
        wait_for(lambda: not self._unread(excused & once), 10, "every result can be read")
        self._assert_failed(once & excused, vanishing=vanishing)
        self._assert_only_doubled(excused)

    def _await_done(self, ids: set[str]) -> None:
        try:
            wait_for(lambda: ids <= self.ledger.ended().keys(), TIMEOUT, "all has been done")
        except AssertionError as error:
            missing = sorted(ids - self.ledger.ended().keys())
            raise AssertionError(f"{error}; of {len(ids)}, {len(missing)} were not: {missing[:5]}") from None

    def _await_ended_or_failed(self, ids: set[str]) -> set[str]:
        """Those that failed: their process was killed after they were noted as begun, before their first line."""

        def unended() -> set[str]:
            return ids - self.ledger.ended().keys()

        def are_ready() -> bool:
            return all(self.tasks.app.AsyncResult(task_id).ready() for task_id in unended())

        wait_for(are_ready, TIMEOUT, f"what runs at most once has ended or failed: {sorted(ids)}")
        return unended()

    def _in_doubt(self, *, vanishing: bool) -> set[str]:
        """What processes that are gone had begun and may not have reported, or their supervisor not settled."""
        found: set[str] = set()
        entries = [entry for entry in self.ledger.entries() if entry.event in ("begin", "end")]
        for pid in {entry.pid for entry in entries if not runs(entry.pid)}:
            own = [entry for entry in entries if entry.pid == pid]
            if self.pool.lanes == 1 and not vanishing:
                found.add(own[-1].id)
            else:
                found |= self.ledger.in_doubt({pid}, own[-1].at, UNSETTLED if vanishing else UNREPORTED)
        return found

    def _unread(self, excused: set[str]) -> list[str]:
        return [task_id for task_id in self.unread() if task_id not in excused]

    def _assert_failed(self, ids: set[str], *, vanishing: bool) -> None:
        """What runs at most once and did not end has failed, where anybody was left to say so."""
        for task_id in ids - self.ledger.ended().keys():
            result = self.tasks.app.AsyncResult(task_id)
            if not vanishing:
                wait_for(result.ready, 10, f"{task_id} has failed")
                assert isinstance(result.result, WorkerLostError), result.result

    def _assert_only_doubled(self, excused: set[str]) -> None:
        begun, known = self.ledger.begun(), self.doomed.keys() | set(self.load.accepted)
        doubled = {task_id for task_id, count in begun.items() if count > 1}
        print(f"{len(known)} tasks, {len(doubled)} doubled; in doubt: {len(excused)}")
        assert begun.keys() <= known, f"ran, but was never sent: {begun.keys() - known}"
        assert not doubled & self.load.once, "ran twice, and must not ever"
        wrong = doubled - excused
        lines = [entry for entry in self.ledger.entries() if entry.id in wrong]
        assert not wrong, f"{len(wrong)} ran twice without need: {lines[:12]}"
        assert self.broker.dead_letters("celery") == []
        assert self.broker.parked("celery") == {}

    # -- what is used, and what is left --

    def used(self) -> tuple[int, int, int]:
        """Processes of the worker; threads and descriptors of its supervisor."""
        supervisor = psutil.Process(self.worker.process.pid)
        return len(self.worker.tree()), supervisor.num_threads(), supervisor.num_fds()

    def await_as_before(self, before: tuple[int, int, int]) -> None:
        """Until the worker uses no more than then."""
        redis = self.workers.environment["LEDGER_BROKER"].startswith("redis")
        more = COME_AND_GO if redis and self.pool.forks else COME_AND_GO_ELSEWHERE

        def is_as_before() -> bool:
            return all(now <= then + some for now, then, some in zip(self.used(), before, more, strict=True))

        try:
            wait_for(is_as_before, 10)
        except AssertionError:
            raise AssertionError(f"processes, threads and descriptors: {before} before, now {self.used()}") from None

    def stop_all(self, *, vanishing: bool) -> None:
        """End all workers well; nothing of them is left anywhere, but for the socket of one that was killed."""
        trees = [process for worker in self.workers.workers for process in worker.tree()]
        for worker in self.workers.workers:
            if worker.process.poll() is None:
                assert worker.stop() == 0, worker.output()[-3000:]
        assert not still_running(trees)
        assert vanishing or list(self.run_directory.iterdir()) == [], "no socket is left"
        wait_for(lambda: not self._of_this_stage(), 5, "no process is left")
        self.tasks.app.close()

    def _of_this_stage(self) -> set[int]:
        """Processes that were started with its directory in their environment."""
        found: set[int] = set()
        for process in psutil.process_iter():
            try:
                if process.environ().get("UMBEL_RUNTIME_DIR") == str(self.run_directory):
                    found.add(process.pid)
            except psutil.Error:
                continue  # it has gone
        return found
