"""Where the end-to-end tests run: the embedded file, and every server."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from workers import Fleet, fleet

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
def limited(limited_workers: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """``apps.holding`` in this process, connected to the same broker as the workers."""
    for name, value in limited_workers.environment.items():
        monkeypatch.setenv(name, value)
    sys.modules.pop("apps.holding", None)
    sys.modules.pop("apps.ledger", None)
    module = importlib.import_module("apps.holding")
    yield module
    module.app.close()
    sys.modules.pop("apps.holding", None)
    sys.modules.pop("apps.ledger", None)


@pytest.fixture
def tasks(workers: Fleet) -> Iterator[ModuleType]:
    """``apps.ledger`` in this process, connected to the same broker as the workers."""
    os.environ.update(workers.environment)
    sys.modules.pop("apps.ledger", None)
    module = importlib.import_module("apps.ledger")
    try:
        yield module
    finally:
        module.app.close()
        sys.modules.pop("apps.ledger", None)
        for name in workers.environment:
            os.environ.pop(name, None)
