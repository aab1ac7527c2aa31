"""The fixtures of the backend suite: each test runs once for every driver in ``drivers.BACKENDS``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conformance.drivers import BACKENDS, Driver
from conformance.waiting import Child, children
from umbel.backends import open_backend
from umbel.backends.base import Backend, Features, Meta, Options, Result
from umbel.codecs import accept_set
from umbel.message import new_id

Connect = Callable[..., Backend]


class Sender:
    """A client that expects results, and the worker that sends them, in one."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def new(self, count: int) -> list[str]:
        """Ids of tasks that are being sent."""
        ids = [new_id() for _ in range(count)]
        self.backend.on_publish(ids)
        self.reply_to = self.backend.reply_to
        return ids

    def encode(self, task_id: str, status: str, result: Any = None, **fields: Any) -> Result:
        meta = Meta(task_id=task_id, status=status, result=result, **fields)
        return self.backend.encode(meta, reply_to=self.reply_to, correlation_id=task_id)

    def store(self, task_id: str, status: str = "SUCCESS", result: Any = None, **fields: Any) -> None:
        self.backend.store([self.encode(task_id, status, result, **fields)])

    def read(self, task_id: str, timeout: float = 5.0) -> Meta:
        """The meta of a ready task."""
        seen: list[Meta] = []
        assert self.backend.wait([task_id], timeout, seen.append), f"{task_id} was not ready within {timeout} s"
        return seen[-1]


@pytest.fixture(params=BACKENDS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param


@pytest.fixture
def connect(url: str) -> Iterator[Connect]:
    """A factory of backends, closed after the test: ``connect(url=…, accept=names, **options)``."""
    opened: list[Backend] = []

    def make(url: str = url, accept: tuple[str, ...] = ("json",), **options: Any) -> Backend:
        backend = open_backend(url, Options(accept=accept_set(accept), **options))
        opened.append(backend)
        return backend

    yield make
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(connect: Connect) -> Backend:
    return connect()


@pytest.fixture
def sender(backend: Backend) -> Sender:
    return Sender(backend)


@pytest.fixture
def features(backend: Backend) -> Features:
    return backend.features


@pytest.fixture
def child(url: str, features: Features) -> Iterator[Callable[..., Child]]:
    """A factory of processes that run ``conformance/backend/child.py``, killed after the test."""
    if not features.shared:
        pytest.skip("other processes do not share these results")
    with children("conformance.backend.child", url=url) as start:
        yield lambda act, **arguments: start(act=act, **arguments)
