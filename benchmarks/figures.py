"""What is measured, and how. Each figure is a function from a system to a few named values of one run."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks import bare, canvases, venvs
from benchmarks.processes import BenchmarkError, Scope
from benchmarks.registry import System
from benchmarks.servers import Servers
from benchmarks.session import DRAIN_TIMEOUT, open_session

Values = dict[str, float]
BARE = "redis-py"
"""Name under which the figures of redis-py alone stand beside those of the systems."""


@dataclass(frozen=True)
class Plan:
    """How long the parts of a run take."""

    runs: int = 3
    drain_seconds: float = 4.0
    loop_seconds: float = 2.0
    latency_samples: int = 200
    latency_pause: float = 0.05
    idle_settle_seconds: float = 3.0
    idle_seconds: float = 30.0
    starts: int = 3
    imports: int = 9
    deep_queue: int = 100_000
    naps: int = 5_000
    shorts: int = 2_000
    limited_seconds: int = 10


QUICK = Plan(
    runs=1,
    drain_seconds=1.0,
    loop_seconds=0.5,
    latency_samples=40,
    latency_pause=0.02,
    idle_settle_seconds=1.0,
    idle_seconds=5.0,
    starts=1,
    imports=3,
    deep_queue=20_000,
    naps=2_000,
    shorts=1_000,
    limited_seconds=3,
)


@dataclass
class Bench:
    """What the figures share: where things run, for how long, and how fast each system was last time."""

    scope: Scope
    servers: Servers
    plan: Plan
    rates: dict[str, float] = field(default_factory=dict)

    def drain_size(self, system: System) -> int:
        """Tasks that last about `plan.drain_seconds`."""
        expected = self.rates.get(system.name, system.rate) * self.plan.drain_seconds
        return min(max(500, int(expected) // 100 * 100), 200_000)


@dataclass(frozen=True)
class Value:
    """One column of a figure."""

    name: str
    title: str
    higher_is_better: bool
    digits: int = 0


@dataclass(frozen=True)
class Figure:
    """One table of the report."""

    name: str
    title: str
    brokers: tuple[str, ...]
    values: tuple[Value, ...]
    measure: Callable[[Bench, System], Values]
    measure_bare: Callable[[Bench], Values] | None = None
    umbel_only: bool = False
    max_runs: int = 100
    systems: tuple[str, ...] = ()
    """Those that are measured, Umbel first, where they are not all of the brokers."""

    @property
    def own(self) -> str:
        """The name of the system for which budgets hold."""
        return self.systems[0] if self.systems else f"umbel@{self.brokers[0]}"

    def covers(self, system: System) -> bool:
        if self.systems or system.is_special:
            return system.name in self.systems
        return system.broker in self.brokers and (system.is_umbel or not self.umbel_only)


def drain(bench: Bench, system: System, task: str = "noop") -> Values:
    """One drain; again with more tasks while it was over in less than half of the time it should last."""
    while True:
        count = bench.drain_size(system)
        with open_session(bench.scope, bench.servers, system, "drain") as session:
            seen = session.drain(count, task)
        bench.rates[system.name] = seen.rate if seen else 4 * count / bench.plan.drain_seconds
        longer = bench.drain_size(system)
        if seen and (seen.seconds >= bench.plan.drain_seconds / 2 or longer <= 1.5 * count):
            return {"rate": seen.rate, "cpu": seen.cpu_per_10000}
        if longer <= count:
            raise BenchmarkError(f"{count} tasks were done too fast to be timed")


def drain_async(bench: Bench, system: System) -> Values:
    """`async def` no-op tasks, but for Umbel's prefork pool, whose rate with plain ones is to be reached."""
    return drain(bench, system, "noop_async" if system.name == "umbel+asyncio2@redis" else "noop")


def sleepers(bench: Bench, system: System) -> Values:
    task = "nap_async" if system.name == "umbel+asyncio@redis" else "nap"
    with open_session(bench.scope, bench.servers, system, "sleep") as session:
        seen = session.drain(bench.plan.naps, task)
    if seen is None:
        raise BenchmarkError(f"{bench.plan.naps} tasks were done too fast to be timed")
    return {"rate": seen.rate, "cpu": seen.cpu_per_10000}


def mixed(bench: Bench, system: System) -> Values:
    """One executor with the short tasks alone, then two with one long task before them."""
    seconds: list[float] = []
    for count, first in (("1", ""), ("2", "long")):
        chosen = system.with_options("--concurrency", count)
        with open_session(bench.scope, bench.servers, chosen, "mixed") as session:
            seen = session.drain(bench.plan.shorts, "short", first)
        if seen is None:
            raise BenchmarkError(f"{bench.plan.shorts} tasks were done too fast to be timed")
        seconds.append(seen.seconds)
    alone, behind = seconds
    return {"behind": behind, "alone": alone, "ratio": behind / alone}


def replacement(bench: Bench, system: System) -> Values:
    """The drain without replacement, then with it."""
    free = drain(bench, system)
    replaced = drain(bench, system.with_options("--max-tasks-per-child", "100"))
    return {"rate": replaced["rate"], "free": free["rate"], "ratio": replaced["rate"] / free["rate"]}


LIMIT = 500
"""Tasks a second, of the task `limited`."""
_FREE_TASKS = 60_000


def rate(bench: Bench, system: System) -> Values:
    """Two workers: first with free tasks only, then with limited ones before them, for longer than is measured."""
    span = bench.plan.limited_seconds
    free = min(_FREE_TASKS, 6_000 * span)
    alone = _stamped(bench, system, {"stamp": free})["stamp"]
    both = _stamped(bench, system, {"limited": LIMIT * (span + 3), "stamp": free}, span + 2)
    begin = both["limited"][0] + 1
    count = sum(begin <= moment < begin + span for moment in both["limited"])
    return {
        "limited": count / span,
        "error": abs(count / span / LIMIT - 1) * 100,
        "free": _middle_rate(both["stamp"]) / _middle_rate(alone),
    }


def _stamped(bench: Bench, system: System, counts: dict[str, int], seconds: float = 0) -> dict[str, list[float]]:
    """When the tasks ran, once `seconds` have passed and all that are not limited are done."""
    chosen = system.with_options("--concurrency", "1", times=2)
    with open_session(bench.scope, bench.servers, chosen, "rate") as session:
        if not session.client.ask("has_option", name="rate_limit_scope"):
            raise BenchmarkError("not built: tasks have no option rate_limit_scope")
        for task, count in counts.items():
            session.client.ask("send_stamps", task=task, count=count)
        worker = session.start_worker()
        time.sleep(seconds)
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while len(session.client.ask("stamps", task="stamp")) < counts["stamp"]:
            worker.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the free tasks were not done in {DRAIN_TIMEOUT:.0f} s")
            time.sleep(0.5)
        return {task: session.client.ask("stamps", task=task) for task in counts}


def _middle_rate(moments: list[float]) -> float:
    """Tasks a second from the first tenth of them to the last."""
    tenth = len(moments) // 10
    return (len(moments) - 2 * tenth) / (moments[-tenth] - moments[tenth])


def drain_deep(bench: Bench, system: System) -> Values:
    with open_session(bench.scope, bench.servers, system, "depth") as session:
        seen = session.drain(bench.plan.deep_queue)
    if seen is None:
        raise BenchmarkError(f"{bench.plan.deep_queue} tasks were done too fast to be timed")
    deep, shallow = seen.rate_between(0.05, 0.25), seen.rate_between(0.79, 0.99)
    return {"deep": deep, "shallow": shallow, "ratio": deep / shallow}


def delay(bench: Bench, system: System) -> Values:
    with open_session(bench.scope, bench.servers, system, "delay") as session:
        session.client.ask("send_for", seconds=0.2)
        count, seconds = session.client.ask("send_for", seconds=bench.plan.loop_seconds)
    return {"rate": count / seconds}


def delay_bare(bench: Bench) -> Values:
    return {"rate": bare.lpush_for(bench.servers.redis_url(0), bench.plan.loop_seconds)}


def bulk(bench: Bench, system: System) -> Values:
    with open_session(bench.scope, bench.servers, system, "bulk") as session:
        session.client.ask("send_many", count=500)
        pilot = 2000 / session.client.ask("send_many", count=2000)
        count = min(max(1000, int(pilot * bench.plan.loop_seconds)), 300_000)
        seconds = session.client.ask("send_many", count=count)
    return {"rate": count / seconds}


def latency(bench: Bench, system: System) -> Values:
    plan = bench.plan
    with open_session(bench.scope, bench.servers, system, "latency") as session:
        session.start_warm_worker()
        samples = session.client.ask("latencies", count=plan.latency_samples, pause=plan.latency_pause)
    cuts = statistics.quantiles(samples, n=20)
    return {"p50": statistics.median(samples) * 1000, "p95": cuts[18] * 1000}


def round_trips(bench: Bench, system: System) -> Values:
    with open_session(bench.scope, bench.servers, system, "roundtrip") as session:
        session.start_warm_worker()
        session.client.ask("call_for", seconds=0.3)
        count, seconds = session.client.ask("call_for", seconds=bench.plan.loop_seconds)
    return {"rate": count / seconds}


def round_trips_bare(bench: Bench) -> Values:
    url = bench.servers.redis_url(0)
    python = str(venvs.directory("umbel") / "python")
    echo = bench.scope.spawn([python, "-m", "benchmarks.bare", "echo", url], "bare.log")
    try:
        return {"rate": bare.ping_pong_for(url, bench.plan.loop_seconds)}
    finally:
        echo.kill()
        echo.wait()


def idle(bench: Bench, system: System) -> Values:
    with open_session(bench.scope, bench.servers, system, "idle") as session:
        worker = session.start_warm_worker()
        time.sleep(bench.plan.idle_settle_seconds)
        worker.find()
        before = worker.cpu_seconds()
        time.sleep(bench.plan.idle_seconds)
        processes = worker.find()
        cpu = (worker.cpu_seconds() - before) * 30 / bench.plan.idle_seconds
        return {"pss": worker.pss_bytes() / 2**20, "cpu": cpu, "processes": len(processes)}


def start(bench: Bench, system: System) -> Values:
    seconds: list[float] = []
    for _ in range(bench.plan.starts):
        with open_session(bench.scope, bench.servers, system, "start") as session:
            session.client.ask("send_stamp")
            worker = session.start_worker()
            seconds.append(session.client.ask("stamp") - worker.started)
    return {"seconds": statistics.median(seconds)}


def import_time(bench: Bench, system: System) -> Values:
    venvs.ensure(system.environment)
    code = f"import time; s = time.perf_counter(); import {system.peer}; print(time.perf_counter() - s)"
    command = [str(venvs.directory(system.environment) / "python"), "-c", code]
    seconds: list[float] = []
    for _ in range(bench.plan.imports):
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=bench.scope.directory, env=bench.scope.environment()
        )
        if done.returncode:
            raise BenchmarkError(f"import {system.peer}: {done.stderr.strip().splitlines()[-1]}")
        seconds.append(float(done.stdout))
    return {"milliseconds": statistics.median(seconds) * 1000}


RATE = Value("rate", "tasks/s", True)
CPU = Value("cpu", "CPU s per 10,000", False, 2)
_NAPS = "5,000 tasks that sleep 10 ms, 100 lanes, Redis"
_DRAIN = "Drain of pre-loaded no-op tasks, results stored"

FIGURES: tuple[Figure, ...] = (
    Figure("drain-redis", f"{_DRAIN}: Redis", ("redis",), (RATE, CPU), drain),
    Figure("drain-postgresql", f"{_DRAIN}: PostgreSQL", ("postgresql",), (RATE, CPU), drain),
    Figure("drain-rabbitmq", f"{_DRAIN} in Redis: RabbitMQ", ("rabbitmq",), (RATE, CPU), drain),
    Figure("drain-sqlite", f"{_DRAIN}: SQLite file", ("sqlite",), (RATE, CPU), drain),
    Figure("delay", "delay() one at a time, Redis", ("redis",), (RATE,), delay, delay_bare),
    Figure("bulk", "Bulk enqueue, Redis", ("redis",), (RATE,), bulk),
    Figure(
        "latency",
        "Enqueue to start on an idle worker, Redis",
        ("redis",),
        (Value("p50", "p50 ms", False, 2), Value("p95", "p95 ms", False, 2)),
        latency,
    ),
    Figure(
        "roundtrip",
        "delay().get() round trips of one client, Redis",
        ("redis",),
        (RATE,),
        round_trips,
        round_trips_bare,
    ),
    Figure("rpc", "delay().get() round trips of one client, rpc://", ("rpc",), (RATE,), round_trips),
    Figure(
        "idle",
        "Idle worker of two executors, Redis",
        ("redis",),
        (
            Value("pss", "PSS MiB", False, 1),
            Value("cpu", "CPU s in 30 s", False, 2),
            Value("processes", "processes", False),
        ),
        idle,
        max_runs=1,
    ),
    Figure(
        "start",
        "Worker start to first task, Redis",
        ("redis",),
        (Value("seconds", "seconds", False, 2),),
        start,
    ),
    Figure("import", "Import", ("redis",), (Value("milliseconds", "ms", False, 1),), import_time),
    Figure(
        "depth",
        "100,000 queued against few queued, Redis",
        ("redis",),
        (
            Value("deep", "tasks/s, many queued", True),
            Value("shallow", "tasks/s, few queued", True),
            Value("ratio", "many/few", True, 3),
        ),
        drain_deep,
        umbel_only=True,
    ),
    Figure(
        "sleep-asyncio",
        f"{_NAPS}: coroutines",
        ("redis",),
        (RATE, CPU),
        sleepers,
        systems=("umbel+asyncio@redis", "taskiq+asyncio@redis", "saq+asyncio@redis"),
    ),
    Figure(
        "sleep-threads",
        f"{_NAPS}: threads",
        ("redis",),
        (RATE, CPU),
        sleepers,
        systems=("umbel+threads@redis", "dramatiq+threads@redis", "huey+threads@redis", "celery+threads@redis"),
    ),
    Figure(
        "sleep-gevent",
        f"{_NAPS}: greenlets",
        ("redis",),
        (RATE, CPU),
        sleepers,
        systems=("umbel+gevent@redis", "dramatiq+gevent@redis", "huey+greenlets@redis", "celery+gevent@redis"),
    ),
    Figure(
        "drain-async",
        "Drain of no-op coroutine tasks, results stored, Redis",
        ("redis",),
        (RATE, CPU),
        drain_async,
        systems=("umbel+asyncio2@redis", "umbel@redis", "taskiq@redis", "saq@redis"),
    ),
    Figure(
        "mixed",
        "2,000 tasks of 1 ms behind one of 5 s, two executors, Redis",
        ("redis",),
        (
            Value("behind", "seconds", False, 2),
            Value("alone", "seconds, one executor without the long task", False, 2),
            Value("ratio", "behind/alone", False, 2),
        ),
        mixed,
        systems=("umbel@redis",),
    ),
    Figure(
        "replacement",
        "Drain with a new executor for every 100 tasks, Redis",
        ("redis",),
        (RATE, Value("free", "tasks/s without", True), Value("ratio", "with/without", True, 2)),
        replacement,
        systems=("umbel@redis", "celery@redis"),
    ),
    Figure(
        "rate",
        "500 tasks/s in all of two workers, beside free tasks, Redis",
        ("redis",),
        (
            Value("limited", "limited tasks/s", True, 1),
            Value("error", "% off the limit", False, 1),
            Value("free", "rate of free tasks beside/alone", True, 2),
        ),
        rate,
        systems=("umbel@redis",),
    ),
    Figure(
        "group",
        "A group of 10,000 sent, Redis",
        ("redis",),
        (RATE,),
        canvases.group,
        systems=("umbel@redis", "celery@redis"),
    ),
    Figure(
        "chord",
        "A chord of 1,000 no-op members, its result awaited, Redis",
        ("redis",),
        (
            Value("ratio", "chord/singles", False, 2),
            Value("chord", "seconds", False, 3),
            Value("singles", "seconds, 1,000 single tasks with results", False, 3),
        ),
        canvases.chord,
        systems=("umbel@redis", "celery@redis"),
    ),
    Figure(
        "chain",
        "A chain of 1,000 no-op links, its result awaited, Redis",
        ("redis",),
        (Value("rate", "links/s", True, 1), Value("milliseconds", "ms a link", False, 2)),
        canvases.chain,
        systems=("umbel@redis", "celery@redis"),
    ),
    Figure(
        "large-canvases",
        "Chain of 10,000, group of 100,000, chord of 10,000, six nested chords of ten; results awaited, Redis",
        ("redis",),
        tuple(
            value
            for what in canvases.LARGE
            for value in (
                Value(what, f"{what}: seconds", False, 2),
                Value(f"{what}_memory", f"{what}: MiB in the client", False, 0),
            )
        ),
        canvases.large,
        max_runs=1,
        systems=("umbel@redis",),
    ),
)
