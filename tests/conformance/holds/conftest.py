"""Where holds and claims are kept: each test runs on every kind of system that keeps them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from umbel import Umbel
from umbel.limits.holds_opening import open_holds
from umbel.limits.holds_store import HoldStore


@pytest.fixture(params=["memory", "sqlite", "redis", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"memory://{secrets.token_hex(6)}"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/umbel.db"
    return request.getfixturevalue("fresh_url")(request.param)


@pytest.fixture
def store(url: str) -> Iterator[HoldStore]:
    with Umbel("holds", broker=url, backend=url, set_as_current=False) as app:
        yield open_holds(app, "this test")


@pytest.fixture
def other(url: str) -> Iterator[HoldStore]:
    """The same as another process would open it."""
    with Umbel("holds", broker=url, backend=url, set_as_current=False) as app:
        yield open_holds(app, "this test")
