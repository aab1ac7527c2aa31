"""The drivers that run the conformance suites, and what the suites must know of each beyond its ``features``.

A test never asks for a driver by name: it asks for a feature, or for something described here. To add a driver, add a
line to ``BROKERS`` or ``BACKENDS``; hooks into its system go to ``hooks.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.hooks import AMQPHooks, Hooks, RedisHooks, SQLHooks


@dataclass(frozen=True)
class Driver:
    """``place``: what the fixture ``url`` opens (``memory``, ``sqlite``, or a server's name in ``tests/services.py``).

    ``scheme``: of its URLs, "" where they are the server's own.
    ``private``: the server that restart tests run, "" for systems without a server.
    ``resends_exactly``: a publish repeated after a broken answer is not sent twice.
    ``counts_deliveries``: unsettled deliveries are counted exactly; otherwise it is known only that there were some.
    ``returns_to_front``: what a consumer gives back comes before what it never had.
    ``priorities``: how many its queues keep apart, None: as many as its features say.
    ``orders_both_ways``: it heeds ``lowest_priority_first``.
    ``largest_body``: bytes of the largest body the system is asked to carry.
    ``keeps_lineage``: results have a place for group and parent ids.
    ``own_expiry``: each result has its own time to live; otherwise whoever cleans up judges all by its own setting.
    ``one_reader``: a result goes to the one object that asked for it.
    """

    name: str
    place: str
    scheme: str = ""
    private: str = ""
    queue: Mapping[str, Any] = field(default_factory=dict[str, Any])
    resends_exactly: bool = True
    counts_deliveries: bool = True
    returns_to_front: bool = True
    priorities: int | None = None
    orders_both_ways: bool = True
    largest_body: int = 50 << 20
    keeps_lineage: bool = True
    own_expiry: bool = True
    one_reader: bool = False
    hooks: Hooks = field(default_factory=Hooks)

    @property
    def has_server(self) -> bool:
        return bool(self.private)

    def address(self, server_url: str) -> str:
        """The URL by which this driver finds the server at ``server_url``."""
        return self.scheme + server_url[server_url.index(":") :] if self.scheme else server_url


BROKERS = [
    Driver("memory", "memory"),
    Driver("sqlite", "sqlite", hooks=SQLHooks()),
    Driver("redis", "redis", private="redis-durable", hooks=RedisHooks()),
    Driver("postgresql", "postgresql", private="postgresql", hooks=SQLHooks()),
    Driver("mariadb", "mariadb", private="mariadb", largest_body=8 << 20, hooks=SQLHooks()),
    Driver(
        "rabbitmq-classic",
        "rabbitmq",
        private="rabbitmq",
        queue={"max_priority": 10},
        resends_exactly=False,
        orders_both_ways=False,
        counts_deliveries=False,
        hooks=AMQPHooks(),
    ),
    Driver(
        "rabbitmq-quorum",
        "rabbitmq",
        private="rabbitmq",
        queue={"queue_arguments": {"x-queue-type": "quorum"}},
        resends_exactly=False,
        orders_both_ways=False,
        returns_to_front=False,
        priorities=1,
        hooks=AMQPHooks(),
    ),
]

BACKENDS = [
    Driver("memory", "memory"),
    Driver("sqlite", "sqlite", keeps_lineage=False, own_expiry=False, hooks=SQLHooks()),
    Driver("redis", "redis", private="redis-durable", hooks=RedisHooks()),
    Driver(
        "postgresql",
        "postgresql",
        private="postgresql",
        keeps_lineage=False,
        own_expiry=False,
        hooks=SQLHooks(),
    ),
    Driver(
        "mariadb",
        "mariadb",
        private="mariadb",
        keeps_lineage=False,
        own_expiry=False,
        hooks=SQLHooks(),
    ),
    Driver("rpc", "rabbitmq", scheme="rpc", private="rabbitmq", one_reader=True, hooks=AMQPHooks()),
]
