"""Fixtures for every test: URLs of real servers, private servers for chaos tests, and tests that take turns.

With xdist, a test marked `alone`, and every test of `tests/chaos`, runs while no other worker runs a test; `calm` ones,
which wait for leases and delays to pass, run beside each other only: on two cores a lease of a few seconds and a busy
neighbour do not go together.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import services
from services import PrivateServer

pytest_plugins = ["stalls"]

TESTS = Path(__file__).parent
CHAOS = TESTS / "chaos"
WITH_PROCESSES = {CHAOS, TESTS / "conformance", TESTS / "e2e", TESTS / "interop"}
PARTS = {"calm and not alone": "calm", "alone": "alone"}
"""The marker that each test of a part of ``scripts/test`` has, by the part's expression."""
STALL = 1.0
"""Seconds for which the machine may not stand still where tests run workers and servers: leases and time-outs end."""


@pytest.fixture(scope="session")
def redis_url() -> str:
    """A database of its own on Redis, for this test process."""
    return services.server_url("redis")


@pytest.fixture(scope="session")
def redis_durable_url() -> str:
    """A database of its own on a Redis that survives restarts, for this test process."""
    return services.server_url("redis-durable")


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """A virtual host of its own on RabbitMQ, for this test process."""
    return services.server_url("rabbitmq")


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    """A database of its own on PostgreSQL, for this test process."""
    return services.server_url("postgresql")


@pytest.fixture(scope="session")
def mariadb_url() -> str:
    """A database of its own on MariaDB, for this test process."""
    return services.server_url("mariadb")


@pytest.fixture
def fresh_url() -> Iterator[Callable[[str], str]]:
    """A factory: `fresh_url("redis")` is a fresh, empty place on that server, removed after the test."""
    with ExitStack() as places:
        yield lambda name: places.enter_context(services.isolated(name))


@pytest.fixture
def private_server() -> Iterator[Callable[[str], PrivateServer]]:
    """A factory: `private_server("redis-durable")` is a server that the test may stop, kill and start again."""
    with ExitStack() as servers:

        def create(name: str) -> PrivateServer:
            server = PrivateServer.create(name)
            servers.callback(server.discard)
            return server

        yield create


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: runs while no other xdist worker runs a test")
    config.addinivalue_line("markers", "calm: waits for time to pass, and runs beside others of its kind only")
    if not _is_worker(config):
        os.environ[services.HOLDER] = str(os.getpid())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of files that have none of the tests that a part of ``scripts/test`` runs, nothing need be imported."""
    kind = PARTS.get(config.option.markexpr)
    if kind is None or collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    inside = kind == "alone" and CHAOS in collection_path.parents
    return None if inside or f"mark.{kind}" in collection_path.read_text() else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if CHAOS in item.path.parents:
            item.add_marker("alone")
        if WITH_PROCESSES & set(item.path.parents) and item.get_closest_marker("timed") is None:
            item.add_marker(pytest.mark.timed(STALL))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if not _is_worker(item.config):
        return (yield)
    with _turn(item):
        return (yield)


def pytest_sessionfinish() -> None:
    services.release_session()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_worker(config):
        return
    services.release_holder()
    for lock in _locks():
        lock.unlink(missing_ok=True)


@contextmanager
def _turn(item: pytest.Item) -> Iterator[None]:
    """Hold the lock of the test's kind, shared, while nobody holds that of another kind; or all of them, for one that
    runs alone. The gate in front of them keeps newcomers from overtaking."""
    gate_path, *rooms = _locks()
    own = rooms[1 if item.get_closest_marker("calm") else 0]
    alone = item.get_closest_marker("alone") is not None
    with ExitStack() as held:
        with gate_path.open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            for path in rooms:
                room = held.enter_context(path.open("a"))
                fcntl.flock(room, fcntl.LOCK_SH if path == own and not alone else fcntl.LOCK_EX)
                if path != own and not alone:
                    fcntl.flock(room, fcntl.LOCK_UN)
        yield


def _locks() -> tuple[Path, Path, Path]:
    base = Path(tempfile.gettempdir()) / f"umbel-tests-{os.environ[services.HOLDER]}"
    return base.with_suffix(".gate"), base.with_suffix(".busy"), base.with_suffix(".calm")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
