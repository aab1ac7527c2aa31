"""One run of one system: a fresh place on its server, a client, a worker; and the pieces figures are made of."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from benchmarks import venvs
from benchmarks.processes import BenchmarkError, Client, Scope, WorkerTree
from benchmarks.registry import System
from benchmarks.servers import Servers

DRAIN_TIMEOUT = 180.0
STALLED = 40.0
"""Seconds without any task done after which a drain is given up."""
STEADY_FROM = 0.05
"""Share of the tasks done when the clock of a drain starts: by then all of the worker's processes are up."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Drain:
    """A drain as it was seen: (seconds, tasks done) at each question, and the worker's CPU."""

    series: list[tuple[float, int]]
    cpu_seconds: float
    """CPU of the worker's tree between the first and the last point of the series."""

    @property
    def tasks(self) -> int:
        return self.series[-1][1] - self.series[0][1]

    @property
    def seconds(self) -> float:
        return self.series[-1][0] - self.series[0][0]

    @property
    def rate(self) -> float:
        return self.tasks / self.seconds

    @property
    def cpu_per_10000(self) -> float:
        return self.cpu_seconds / self.tasks * 10_000

    def rate_between(self, first: float, last: float) -> float:
        """Tasks a second while between these shares of the tasks were done; at least the first point's share."""
        total = self.series[-1][1]
        begin = max(first * total, self.series[0][1])
        return (last * total - begin) / (self._when(last * total) - self._when(begin))

    def _when(self, done: float) -> float:
        """The moment at which so many were done, between two questions by straight line."""
        for (t0, n0), (t1, n1) in pairwise(self.series):
            if n0 <= done <= n1 and n1 > n0:
                return t0 + (t1 - t0) * (done - n0) / (n1 - n0)
        raise BenchmarkError("the drain was over before it could be watched")


class Session:
    """A system ready to be measured; made by `open_session`."""

    def __init__(self, scope: Scope, system: System, environment: dict[str, str], number: int) -> None:
        self.scope = scope
        self.system = system
        self.environment = environment
        self._log = f"{number:04d}-{system.name}"
        python = str(venvs.directory(system.environment) / "python")
        self.client = Client(scope, python, system.module, environment, f"{self._log}-client.log")
        self.worker: WorkerTree | None = None

    def start_worker(self) -> WorkerTree:
        programs = venvs.directory(self.system.environment)
        commands = [(str(programs / command[0]), *command[1:]) for command in self.system.commands]
        self.worker = WorkerTree(self.scope, commands, self.environment, f"{self._log}-worker.log")
        return self.worker

    def start_warm_worker(self, calls: int = 20) -> WorkerTree:
        """Start the worker and let it do some tasks, so that all it loads lazily is loaded."""
        worker = self.start_worker()
        self.client.ask("latencies", count=calls, pause=0.0)
        worker.check()
        return worker

    def drain(self, count: int, task: str = "noop", first: str = "") -> Drain | None:
        """Enqueue `count` tasks, then start the worker and watch until so many are done; None if they were too few.

        `first`: a task that is enqueued before them, once. Raises BenchmarkError when the worker ends, stalls, or is
        not done in 180 s.
        """
        if first:
            self.client.ask("send_many", count=1, task=first)
        self.client.ask("send_many", count=count, task=task)
        interval = self.client.ask("watch", expected=count)
        worker = self.start_worker()
        began = moved = time.monotonic()
        series: list[tuple[float, int]] = []
        steady = False
        cpu_before = 0.0
        done = 0
        while done < count:
            time.sleep(interval)
            if steady and not series:
                cpu_before = worker.cpu_seconds()
            before, done = done, self.client.ask("done")
            now = time.monotonic()
            if done != before:
                moved = now
            if steady:
                series.append((now, done))
            elif done >= STEADY_FROM * count:
                steady = True
                worker.find()
            else:
                worker.check()
            if now > min(began + DRAIN_TIMEOUT, moved + STALLED):
                tail = self.scope.log_tail(worker.log)
                raise BenchmarkError(f"{done} of {count} tasks done in {now - began:.0f} s:\n{tail}")
        worker.find()
        cpu = worker.cpu_seconds() - cpu_before
        return Drain(series, cpu) if len(series) > 1 else None

    def close(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None


@contextmanager
def open_session(scope: Scope, servers: Servers, system: System, figure: str) -> Iterator[Session]:
    """A session on an empty queue; worker, client and data are gone when it ends."""
    venvs.ensure(system.environment)
    broker, backend = _addresses(servers, system)
    number = next(_numbers)
    environment = {
        "BENCH_BROKER": broker,
        "BENCH_BACKEND": backend,
        "BENCH_QUEUE": f"bench{number}",
        "BENCH_FIGURE": figure,
    }
    session = Session(scope, system, environment, number)
    try:
        session.client.ask("prepare")
        yield session
        session.close()
        session.client.ask("cleanup")
    finally:
        session.close()
        session.client.stop()
        servers.clear_redis()
        if system.broker == "postgresql":
            servers.drop_database(broker)


def _addresses(servers: Servers, system: System) -> tuple[str, str]:
    if system.broker == "redis":
        # Umbel can settle a task in one atomic step only where queue and results are in one database; for the peers
        # a database of results alone makes their count exact, and costs them nothing.
        return servers.redis_url(0), servers.redis_url(0 if system.is_umbel else 1)
    if system.broker == "rabbitmq":
        return servers.rabbitmq_url(), servers.redis_url(1)
    if system.broker == "rpc":
        return servers.rabbitmq_url(), "rpc://"
    url = servers.postgresql_url() if system.broker == "postgresql" else servers.sqlite_url()
    return url, url
