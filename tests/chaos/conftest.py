"""Where chaos is made: on the embedded file, and on servers that tests share or have for themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from chaos.scene import QUORUM, Scene, open_scene
from proxy import TCPProxy
from services import PrivateServer

SYSTEMS = ["sqlite", "redis", "postgresql", "rabbitmq", "mariadb"]
SERVERS = ["redis", "postgresql", "rabbitmq"]


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@dataclass
class Place:
    """Where broker and results are, and how to open a scene there."""

    system: str
    broker: str
    backend: str
    directory: Path

    @contextmanager
    def scene(
        self,
        environment: Mapping[str, str] = MappingProxyType({}),
        *,
        worker_proxy: TCPProxy | None = None,
        client_proxy: TCPProxy | None = None,
    ) -> Iterator[Scene]:
        """``environment`` is the workers'; ``worker_proxy`` stands between them and the broker, ``client_proxy``
        between client and broker."""
        broker = worker_proxy.url(self.broker) if worker_proxy else self.broker
        backend = broker if self.backend == self.broker else self.backend
        client = client_proxy.url(self.broker) if client_proxy else self.broker
        more = QUORUM if self.system == "rabbitmq" else {}
        with open_scene(self.directory, broker, backend, {**environment, **more}, client=client) as scene:
            yield scene


@pytest.fixture
def place(system: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """On a server that other tests use too. Results are in the same system, those of RabbitMQ in Redis."""
    if system == "sqlite":
        url = f"sqlite:///{tmp_path / 'umbel.db'}"
        return Place(system, url, url, tmp_path)
    fresh: Callable[[str], str] = request.getfixturevalue("fresh_url")
    url = fresh(system)
    return Place(system, url, fresh("redis") if system == "rabbitmq" else url, tmp_path)


@pytest.fixture
def own_server(
    system: str, private_server: Callable[[str], PrivateServer], tmp_path: Path, request: pytest.FixtureRequest
) -> tuple[PrivateServer, Place]:
    """On a server of the test's own; it survives a SIGKILL with its data."""
    server = private_server("redis-durable" if system == "redis" else system)
    results = request.getfixturevalue("fresh_url")("redis") if system == "rabbitmq" else server.url
    return server, Place(system, server.url, results, tmp_path)


@pytest.fixture
def proxies() -> Iterator[Callable[[str], TCPProxy]]:
    """A factory of proxies to the server of a URL."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(TCPProxy.to(url))
