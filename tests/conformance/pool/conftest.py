"""A worker of each pool on Redis, shared by the tests of a module that leave it whole, or one for a test alone."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

import services
from conformance.pool.pools import POOLS, PoolCase
from workers import Fleet, WorkerProcess, fleet

MODULES = ("apps.around", "apps.ledger", "apps.lanes", "apps.overrunning", "apps.scaled", "apps.disturbed")


@contextmanager
def place(
    directory: Path, app: str = "apps.lanes", system: str = "redis", **environment: str
) -> Iterator[tuple[Fleet, ModuleType]]:
    """An empty broker, a fleet on it, and the module ``app`` in this process; ``environment`` is that of both."""
    with urls(directory, system) as (broker, backend), fleet(directory, broker, backend, **environment) as workers:
        os.environ.update(workers.environment)
        for name in MODULES:
            sys.modules.pop(name, None)
        tasks = importlib.import_module(app)
        try:
            yield workers, tasks
        finally:
            tasks.app.close()
            for name in MODULES:
                sys.modules.pop(name, None)
            for name in workers.environment:
                os.environ.pop(name, None)


@contextmanager
def urls(directory: Path, system: str) -> Iterator[tuple[str, str]]:
    """Broker and result store: the same but for RabbitMQ, whose results are stored in Redis."""
    if system == "sqlite":
        url = f"sqlite:///{directory / 'umbel.db'}"
        yield url, url
        return
    with services.isolated(system) as broker:
        if system != "rabbitmq":
            yield broker, broker
            return
        with services.isolated("redis") as backend:
            yield broker, backend


def start(workers: Fleet, pool: PoolCase, *arguments: str, app: str = "apps.lanes") -> WorkerProcess:
    return workers.start(*pool.arguments, *arguments, app=app)


@pytest.fixture(scope="module", params=POOLS, ids=lambda pool: pool.id)
def pool(request: pytest.FixtureRequest) -> PoolCase:
    return request.param


@pytest.fixture(scope="module")
def shared(pool: PoolCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, ModuleType]]:
    """A worker for all tests of a module."""
    with place(tmp_path_factory.mktemp("pool")) as (workers, tasks):
        start(workers, pool)
        yield workers, tasks


@pytest.fixture
def tasks(shared: tuple[Fleet, ModuleType]) -> ModuleType:
    """``apps.lanes``, with a worker."""
    workers, tasks = shared
    workers.ledger.path.write_text("")
    return tasks


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Fleet, ModuleType]]:
    """``apps.lanes``; the workers are to be started."""
    with place(tmp_path) as made:
        yield made
