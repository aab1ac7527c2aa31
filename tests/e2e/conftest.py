"""Where the end-to-end tests run: the embedded file, and every server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from oddities import QUEUE, Node
from workers import Fleet, fleet, imported

SYSTEMS = ["sqlite", "redis", "postgresql", "mariadb", "rabbitmq"]


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def urls(system: str, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, str]:
    """Broker and result store; RabbitMQ's results are stored in Redis."""
    if system == "sqlite":
        url = f"sqlite:///{tmp_path / 'umbel.db'}"
        return url, url
    fresh: Callable[[str], str] = request.getfixturevalue("fresh_url")
    if system == "rabbitmq":
        return fresh("rabbitmq"), fresh("redis")
    url = fresh(system)
    return url, url


@pytest.fixture
def workers(urls: tuple[str, str], tmp_path: Path) -> Iterator[Fleet]:
    """Workers of ``apps.ledger``, none started yet."""
    with fleet(tmp_path, *urls) as made:
        yield made


@pytest.fixture
def limited_workers(urls: tuple[str, str], tmp_path: Path) -> Iterator[Fleet]:
    """Workers of ``apps.holding``, with a lease of ``HOLDING_LEASE`` seconds; none started yet."""
    with fleet(tmp_path, *urls, HOLDING_LEASE="2") as made:
        made.app = "apps.holding"
        yield made


@pytest.fixture
def limited(limited_workers: Fleet) -> Iterator[ModuleType]:
    """``apps.holding`` in this process, connected to the same broker as the workers."""
    with imported("apps.holding", limited_workers.environment) as module:
        yield module


@pytest.fixture
def tasks(workers: Fleet) -> Iterator[ModuleType]:
    """The workers' application in this process, connected to the same broker."""
    with imported(workers.app, workers.environment) as module:
        yield module


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Fleet]:
    """Workers of ``apps.ledger`` on the embedded file, whose sockets are in a directory of the test's own."""
    url = f"sqlite:///{tmp_path}/umbel.db"
    with fleet(tmp_path, url, url, UMBEL_RUNTIME_DIR=str(tmp_path / "run")) as made:
        yield made


@pytest.fixture
def odd(shared: Node) -> Iterator[Node]:
    """The worker that all tests of a module and a system share; each must leave it as healthy as it was."""
    assert shared.worker.process.poll() is None
    yield shared
    with shared.fresh_if_unhealthy():
        shared.check_healthy()
        assert shared.broker.dead_letters(QUEUE) == []
