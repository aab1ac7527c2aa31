"""Every system that is measured: where it is installed, what it runs on, how its worker is started.

A further system is one entry here, one module in `benchmarks/systems` and one file in `benchmarks/pins`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class System:
    """One task queue on one broker."""

    name: str
    """`peer@broker`, or `peer+kind@broker` where it is measured with several kinds of workers."""
    environment: str
    """Virtual environment, and file of pins."""
    broker: str
    """redis, postgresql, rabbitmq, rpc (RabbitMQ with results over it) or sqlite."""
    commands: tuple[tuple[str, ...], ...]
    """Worker commands; the first word is a program of the environment."""
    rate: int
    """Tasks a second to be expected, for the size of the first run only."""
    settings: str
    """What was set, in words, for the report."""

    @property
    def peer(self) -> str:
        return peer_of(self.name)

    @property
    def module(self) -> str:
        return f"benchmarks.systems.{self.peer}"

    @property
    def is_umbel(self) -> bool:
        return self.peer == "umbel"

    @property
    def is_special(self) -> bool:
        """Whether it has a part in those figures only that name it."""
        return "+" in self.name

    def with_options(self, *options: str, times: int = 1) -> System:
        """The same with these options of its worker besides, and so many workers."""
        return replace(self, commands=tuple((*command, *options) for command in self.commands) * times)


def peer_of(name: str) -> str:
    """The task queue that a system's name begins with."""
    return name.partition("@")[0].partition("+")[0]


def _celery(broker: str, rate: int, extra: str = "") -> System:
    command = (
        "celery", "-A", "benchmarks.systems.celery", "worker", "--pool", "prefork", "--concurrency", "2",
        "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR",
    )  # fmt: skip
    settings = "prefork, 2 processes, prefetch 128, no gossip, mingle, heartbeat or rate limits" + extra
    return System(f"celery@{broker}", "celery", broker, (command,), rate, settings)


def _dramatiq(broker: str, rate: int) -> System:
    command = ("dramatiq", "benchmarks.systems.dramatiq", "--processes", "2", "--threads", "8")
    return System(f"dramatiq@{broker}", "dramatiq", broker, (command,), rate, "2 processes of 8 threads")


def _huey(broker: str, rate: int) -> System:
    command = (
        "huey_consumer", "benchmarks.systems.huey.huey", "--workers", "2", "--worker-type", "process",
        "--no-periodic", "--quiet", "--delay", "0.01", "--max-delay", "0.1",
    )  # fmt: skip
    return System(f"huey@{broker}", "huey", broker, (command,), rate, "2 processes, no periodic tasks")


def _umbel(broker: str, rate: int) -> System:
    command = ("umbel", "-A", "benchmarks.systems.umbel", "worker", "--concurrency", "2", "--loglevel", "warning")
    return System(f"umbel@{broker}", "umbel", broker, (command,), rate, "default pool, 2 executors")


def _lanes(name: str, rate: int, settings: str, *commands: str) -> System:
    """A system with many lanes in each process, on Redis."""
    return System(f"{name}@redis", peer_of(name), "redis", tuple(tuple(c.split()) for c in commands), rate, settings)


UMBEL = "umbel -A benchmarks.systems.umbel worker --loglevel warning"
CELERY = (
    "celery -A benchmarks.systems.celery worker --concurrency 50 --without-gossip --without-mingle "
    "--without-heartbeat --loglevel ERROR"
)
HUEY = "--no-periodic --quiet --delay 0.01 --max-delay 0.1"

WITH_LANES: tuple[System, ...] = (
    _lanes("umbel+asyncio", 8_000, "1 process of 100 lanes", f"{UMBEL} --pool asyncio --concurrency 100"),
    _lanes("umbel+asyncio2", 15_000, "2 processes of 100 lanes", f"{UMBEL} --pool asyncio --processes 2"),
    _lanes("umbel+threads", 8_000, "2 processes of 50", f"{UMBEL} --pool threads --processes 2 --concurrency 50"),
    _lanes("umbel+gevent", 8_000, "2 processes of 50", f"{UMBEL} --pool gevent --processes 2 --concurrency 50"),
    _lanes(
        "dramatiq+threads",
        3_000,
        "2 processes of 50",
        "dramatiq benchmarks.systems.dramatiq --processes 2 --threads 50",
    ),
    _lanes(
        "dramatiq+gevent",
        3_000,
        "2 processes of 50",
        "dramatiq-gevent benchmarks.systems.dramatiq --processes 2 --threads 50",
    ),
    _lanes(
        "taskiq+asyncio",
        1_500,
        "RedisStreamBroker, 2 processes of 50, prefetch 50, uvloop, orjson",
        "taskiq worker benchmarks.systems.taskiq:broker --workers 2 --log-level ERROR --max-async-tasks 50 "
        "--max-prefetch 50 --no-parse",
    ),
    _lanes("saq+asyncio", 1_000, "2 processes of 50", "saq benchmarks.systems.saq.settings --workers 2"),
    _lanes(
        "huey+threads",
        1_000,
        "1 process of 100; it has no more",
        f"huey_consumer benchmarks.systems.huey.huey --workers 100 --worker-type thread {HUEY}",
    ),
    _lanes(
        "huey+greenlets",
        1_000,
        "gevent, 1 process of 100; it has no more",
        f"huey_consumer benchmarks.systems.huey_greenlets.huey --workers 100 --worker-type greenlet {HUEY}",
    ),
    _lanes(
        "celery+threads", 500, "2 workers of 50", *(f"{CELERY} --pool threads -n {node}@%h" for node in ("one", "two"))
    ),
    _lanes(
        "celery+gevent", 500, "2 workers of 50", *(f"{CELERY} --pool gevent -n {node}@%h" for node in ("one", "two"))
    ),
)

SYSTEMS: tuple[System, ...] = (
    *WITH_LANES,
    _umbel("redis", 15_000),
    _celery("redis", 500),
    _dramatiq("redis", 1_500),
    System(
        "taskiq@redis",
        "taskiq",
        "redis",
        (
            ("taskiq", "worker", "benchmarks.systems.taskiq:broker", "--workers", "2", "--log-level", "ERROR",
             "--max-async-tasks", "10", "--max-prefetch", "10", "--no-parse"),
        ),
        1_500,
        "RedisStreamBroker, 2 processes of 10 asyncio tasks, prefetch 10, uvloop, orjson",
    ),
    _huey("redis", 2_000),
    System(
        "saq@redis",
        "saq",
        "redis",
        (("saq", "benchmarks.systems.saq.settings", "--workers", "2"),),
        1_000,
        "2 processes of 20 asyncio tasks",
    ),
    _umbel("postgresql", 3_000),
    System(
        "pgqueuer@postgresql",
        "pgqueuer",
        "postgresql",
        (("python", "-m", "benchmarks.systems.pgqueuer"),) * 2,
        3_000,
        "asyncpg, uvloop, 2 processes, batches of 100; keeps the status, no return value",
    ),
    System(
        "procrastinate@postgresql",
        "procrastinate",
        "postgresql",
        (
            ("procrastinate", "--log-level", "error", "--app", "benchmarks.systems.procrastinate.app",
             "worker", "--concurrency", "10"),
        ) * 2,
        300,
        "psycopg, 2 processes of 10 asyncio jobs; keeps the status, no return value",
    ),
    _umbel("rabbitmq", 5_000),
    _celery("rabbitmq", 400, "; quorum queue, confirmed publishing"),
    _dramatiq("rabbitmq", 1_200),
    _umbel("rpc", 500),
    _celery("rpc", 100, "; classic queue, confirmed publishing"),
    _umbel("sqlite", 3_000),
    _huey("sqlite", 500),
)  # fmt: skip


def select(names: list[str]) -> list[System]:
    """The systems named `peer@broker`, `peer` or `@broker`; all of them if no name is given.

    Raises ValueError for a name that fits nothing.
    """
    chosen = [s for s in SYSTEMS if not names or any(_fits(s, name) for name in names)]
    for name in names:
        if not any(_fits(system, name) for system in SYSTEMS):
            raise ValueError(f"no system is called {name!r}; there are {', '.join(s.name for s in SYSTEMS)}")
    return chosen


def _fits(system: System, name: str) -> bool:
    return name in (system.name, system.peer, f"@{system.broker}")
