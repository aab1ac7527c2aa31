"""Dispatch: which executor gets which job, and how much work the worker holds.

The worker holds about ``window`` seconds of work for each lane, judged by the running mean of each task's
duration: one message of long tasks, hundreds of short ones. What an executor has not read yet is taken back and given
to one that is idle, so a full window costs no fairness.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from umbel.executors import packets
from umbel.worker.durations import Durations
from umbel.worker.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from umbel.brokers.base import Delivery
    from umbel.config import Settings
    from umbel.worker.pool import ExecutorHandle

MOST_UNREPORTED = 256
"""Jobs sent to one executor and not reported yet, at most, besides those that its further lanes run."""

MOST_HELD_EACH = 1000
"""Messages held for each lane, at most."""

MOST_BYTES_HELD = 64 << 20


def fixed_window(conf: Settings) -> int | None:
    """Messages held for each executor as the settings fix it; None: as many as their durations suggest."""
    if conf.worker_disable_prefetch:
        return 1
    return MOST_HELD_EACH if conf.worker_prefetch_multiplier == 0 else conf.worker_prefetch_multiplier


class Room(NamedTuple):
    """What a worker has room for. ``idle``: lanes without a job; ``uneven``: others have more than they can run;
    ``wanted``: how many messages more it should hold; ``window``: how many it holds when it has no room."""

    idle: int
    uneven: bool
    wanted: int
    window: int


class Dispatcher:
    """Holds the backlog, and knows who runs what."""

    def __init__(
        self,
        executors: Callable[[], Collection[ExecutorHandle]],
        window: float,
        fixed: int | None,
        suspect_from: int = 1 << 30,
        on_allowance: Callable[[], object] = lambda: None,
    ) -> None:
        """``window``: seconds of work held for each lane; ``fixed``: messages held for each instead of that.
        ``suspect_from``: deliveries without an end after which a task is suspected of crashing its process.
        ``on_allowance``: called when an executor has got all that it may be sent in its life, and when some of that was
        taken back."""
        self._executors = executors
        self.on_allowance = on_allowance
        self._suspect_from = suspect_from
        self.window = window
        self.fixed = fixed
        self.durations = Durations(unknown=window / 2)
        self.backlog: deque[Job] = deque()
        self._backlog_seconds = 0.0
        self._bytes = 0
        self._last_number = 0
        self.waiting: set[Job] = set()
        """Acknowledged early; to be run once the broker has confirmed that."""
        self._suspects: deque[Job] = deque()
        """Of the backlog: for executors of several lanes, where only one at a time may run."""

    def is_suspect(self, job: Job) -> bool:
        """Whether it was delivered so often without an end that the next crash is its last."""
        return job.delivery.deliveries >= self._suspect_from

    # -- coming in --

    def job(self, delivery: Delivery) -> Job:
        self._last_number += 1
        message = delivery.message
        size = message.size
        self._bytes += size
        return Job(self._last_number, delivery, min(self.durations.estimate(message.task), self.window), size)

    def put(self, job: Job) -> None:
        self.backlog.append(job)
        self._backlog_seconds += job.estimate

    def put_back(self, jobs: Iterable[Job]) -> None:
        """To the front, in the order given."""
        for job in reversed(list(jobs)):
            self.backlog.appendleft(job)
            self._backlog_seconds += job.estimate

    # -- going out --

    def pump(self) -> None:
        """Send from the backlog to executors that have room, the idlest first."""
        if not (self.backlog or self._suspects):
            return
        executors = [executor for executor in self._executors() if executor.open and not executor.stopping]
        if not executors:
            return
        executors.sort(key=_load)
        for at, executor in enumerate(executors):
            if not self.backlog:
                break
            self._fill(executor, -(-len(self.backlog) // (len(executors) - at)))
        if self._suspects:
            self._send_suspects(executors)

    def _fill(self, executor: ExecutorHandle, most: int) -> None:
        backlog, jobs, lanes = self.backlog, executor.jobs, executor.open
        window = lanes * self.window
        room = granted = min(most, self._unreported_limit(executor) - len(jobs), executor.allowance)
        while room > 0 and backlog and (len(jobs) < lanes or executor.load + backlog[0].estimate <= window):
            job = backlog[0]
            if executor.lanes > 1 and self.is_suspect(job):
                backlog.popleft()
                self._backlog_seconds -= job.estimate
                self._suspects.append(job)
                continue
            if not executor.channel.send(
                packets.encode_task(job.number, job.delivery.message, job.delivery.deliveries, job.soft)
            ):
                break
            backlog.popleft()
            self._backlog_seconds -= job.estimate
            jobs[job.number] = job
            executor.load += job.estimate
            room -= 1
        if room < granted:
            executor.allowance -= granted - room
            if executor.allowance <= 0:
                self.on_allowance()

    def _send_suspects(self, executors: Iterable[ExecutorHandle]) -> None:
        """One to each executor that has none, so that it is known who did it if the process dies once more."""
        for executor in executors:
            if not self._suspects:
                return
            job = self._suspects[0]
            if (
                executor.allowance > 0
                and executor.suspect not in executor.jobs
                and executor.channel.send(
                    packets.encode_task(job.number, job.delivery.message, job.delivery.deliveries, job.soft)
                )
            ):
                self._suspects.popleft()
                executor.allowance -= 1
                executor.suspect = job.number
                executor.jobs[job.number] = job
                executor.load += job.estimate

    def _unreported_limit(self, executor: ExecutorHandle) -> int:
        lanes = executor.open
        if lanes < executor.lanes:
            return lanes
        return MOST_UNREPORTED + lanes - 1 if self.fixed is None else lanes * max(1, self.fixed)

    def balance(self) -> bool:
        """Give an executor with an idle lane half of what the most loaded one has not read; whether there was any."""
        executors = self._executors()
        if self.backlog or len(executors) < 2:
            return False
        moved = False
        idle = [executor for executor in executors if len(executor.jobs) < executor.open and not executor.stopping]
        for executor in idle:
            donor = max(executors, key=_unread)
            unread = _unread(donor)
            if unread < 1:
                break
            taken = self.take_back(donor, (unread + 1) // 2)
            if not taken:
                break
            self.put_back(taken)
            self._fill(executor, len(taken))
            moved = True
        return moved

    def take_back(self, executor: ExecutorHandle, limit: int) -> list[Job]:
        """Up to ``limit`` jobs that ``executor`` has not read, oldest first; it will not see them. A request to stop
        that comes along is sent again."""
        taken: list[Job] = []
        for packet in executor.channel.take_back(limit):
            if packets.kind_of(packet) == packets.STOP:
                executor.channel.send(packet)
                break
            job = executor.jobs.pop(packets.number_of(packet), None)
            if job is not None:
                executor.load -= job.estimate
                taken.append(job)
        was_exhausted = executor.allowance <= 0
        executor.allowance += len(taken)
        if was_exhausted and executor.allowance > 0:
            self.on_allowance()
        return taken

    # -- ending --

    def finish(self, executor: ExecutorHandle, number: int, runtime: float | None) -> Job | None:
        """The job that ended there; ``runtime`` in seconds teaches the estimate."""
        job = executor.jobs.pop(number, None)
        if job is None:
            return None
        executor.load = executor.load - job.estimate if executor.jobs else 0.0
        self._bytes -= job.size
        if runtime is not None:
            self.durations.observe(job.delivery.message.task, runtime)
        return job

    def forget(self, job: Job) -> None:
        self._bytes -= job.size

    def withdraw(self, task_ids: Collection[str]) -> list[Job]:
        """The jobs of these tasks that no executor has read; none will."""
        for executor in self._executors():
            if any(job.message.id in task_ids for job in executor.jobs.values()):
                self.put_back(self.take_back(executor, 1 << 30))
        withdrawn = [job for job in (*self._suspects, *self.backlog) if job.message.id in task_ids]
        if withdrawn:
            for job in self.drop_backlog():
                if job.message.id in task_ids:
                    self.forget(job)
                else:
                    self.put(job)
        return withdrawn

    def jobs(self) -> Iterator[Job]:
        """All that are held."""
        yield from (*self._suspects, *self.backlog, *self.waiting)
        for executor in self._executors():
            yield from executor.jobs.values()

    def drop_backlog(self) -> list[Job]:
        jobs = [*self._suspects, *self.backlog]
        self._suspects.clear()
        self.backlog.clear()
        self._backlog_seconds = 0.0
        return jobs

    # -- how much more --

    def room(self) -> Room:
        """What there is room for now."""
        lanes = all_lanes = idle = jobs = 0
        load, crowded = self._backlog_seconds, False
        for executor in self._executors():
            all_lanes += executor.open
            count = len(executor.jobs)
            crowded = crowded or count > executor.lanes
            if executor.stopping:
                continue
            lanes += executor.open
            idle += executor.open - count if executor.open > count else 0
            jobs += count
            load += executor.load
        mean = max(self.durations.overall, 1e-6)
        if self.fixed is not None:
            each = self.fixed or 1
            window, wanted = all_lanes * each, lanes * each - self._kept() - jobs
        else:
            by_time = int((lanes * self.window - load) / mean)
            by_count = lanes * MOST_HELD_EACH - self._kept() - jobs
            window = min(max(all_lanes, int(all_lanes * self.window / mean)), all_lanes * MOST_HELD_EACH)
            wanted = max(min(by_time, by_count), idle - len(self.backlog) - len(self.waiting))
        uneven = crowded and idle > 0
        return Room(idle, uneven, max(0, wanted) if lanes and self._bytes <= MOST_BYTES_HELD else 0, window)

    def held(self) -> int:
        """How many messages are held."""
        return self._kept() + sum(len(executor.jobs) for executor in self._executors())

    def _kept(self) -> int:
        return len(self.backlog) + len(self._suspects) + len(self.waiting)

    def load(self) -> tuple[int, int]:
        """Lanes that have a job, and jobs held for them, theirs included; without executors that are stopping."""
        executors = [executor for executor in self._executors() if not executor.stopping]
        busy = sum(min(len(executor.jobs), executor.open) for executor in executors)
        return busy, self._kept() + sum(len(executor.jobs) for executor in executors)

    def busy(self) -> bool:
        """Whether anything is held that has not ended."""
        return bool(self.backlog or self._suspects or self.waiting) or any(
            executor.jobs for executor in self._executors()
        )


def _load(executor: ExecutorHandle) -> float:
    return executor.load


def _unread(executor: ExecutorHandle) -> int:
    """How many packets it has not read, where every lane has one."""
    return len(executor.jobs) - executor.lanes
