"""The fixtures of both suites. Each suite says in ``driver`` which drivers run it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.drivers import Driver
from proxy import TCPProxy
from services import PrivateServer


@pytest.fixture
def url(driver: Driver, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a place that this test has for itself or shares with its own process only."""
    if driver.place == "memory":
        return f"memory://{secrets.token_hex(6)}"
    if driver.place == "sqlite":
        return f"sqlite:///{tmp_path}/umbel.db"
    return driver.address(str(request.getfixturevalue(f"{driver.place}_url")))


@pytest.fixture
def proxy(driver: Driver, url: str) -> Iterator[TCPProxy]:
    """A proxy in front of the server."""
    if not driver.has_server:
        pytest.skip("there is no server to lose the connection to")
    with TCPProxy.to(url) as between:
        yield between


@pytest.fixture
def server(driver: Driver, private_server: Callable[[str], PrivateServer]) -> PrivateServer:
    """A server of this test's own."""
    if not driver.has_server:
        pytest.skip("there is no server to restart")
    return private_server(driver.private)
