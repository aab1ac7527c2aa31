"""Fixtures' shared part: where a driver's system is for this test, and whether it can be had."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path

import pytest

from conformance.drivers import Driver


def require(driver: Driver) -> None:
    """Skip the calling test while the driver does not exist."""
    spec = importlib.util.find_spec(driver.module)
    if spec is None or spec.origin is None:
        pytest.skip(f"{driver.module} is not written yet")


def url_for(driver: Driver, request: pytest.FixtureRequest, directory: Path) -> str:
    """The URL of a place that this test has for itself or shares with its own process only."""
    require(driver)
    if driver.place == "memory":
        return f"memory://{secrets.token_hex(6)}"
    if driver.place == "sqlite":
        return f"sqlite:///{directory}/umbel.db"
    if driver.place == "rpc":
        return "rpc" + str(request.getfixturevalue("rabbitmq_url")).removeprefix("amqp")
    return str(request.getfixturevalue(f"{driver.place}_url"))


def own_url(driver: Driver, server_url: str) -> str:
    """The URL by which the driver finds a server of its own."""
    return "rpc" + server_url.removeprefix("amqp") if driver.place == "rpc" else server_url
