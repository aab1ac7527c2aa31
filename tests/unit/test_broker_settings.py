"""Settings of the connection to a broker: several servers and their order, logging in, faults of the result store."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy import TCPProxy
from services import PrivateServer
from umbel import Umbel
from umbel.backends.base import Backend, Meta
from umbel.backends.memory import MemoryBackend
from umbel.brokers.amqp.addresses import addresses
from umbel.brokers.base import Options
from umbel.config import Settings
from umbel.errors import ConfigurationError, OperationalError
from umbel.failover import in_order
from umbel.opening import broker_url, open_backend, open_broker
from umbel.transport_options import unused

URLS = ["amqp://a", "amqp://b", "amqp://c"]


def app(**settings: Any) -> Umbel:
    return Umbel("settings", set_as_current=False, **settings)


# -- several servers -------------------------------------------------------------------------------


def last_first(urls: list[str]) -> Iterator[str]:
    while True:
        yield urls[-1]


def backwards(urls: list[str]) -> list[str]:
    return urls[::-1]


@pytest.mark.parametrize("given", [URLS, ";".join(URLS)])
@pytest.mark.parametrize(
    ("strategy", "order"),
    [
        (None, URLS),
        ("round-robin", URLS),
        (last_first, ["amqp://c", "amqp://a", "amqp://b"]),
        (backwards, URLS[::-1]),
        (f"{__name__}.backwards", URLS[::-1]),
    ],
)
def test_the_order_of_servers(given: Any, strategy: Any, order: list[str]) -> None:
    assert broker_url(app(broker_url=given, broker_failover_strategy=strategy).conf) == ";".join(order)


def test_shuffled_servers() -> None:
    random.seed(1)
    orders = {tuple(in_order(URLS, "shuffle")) for _ in range(100)}
    assert len(orders) == 6
    assert broker_url(app(broker_url="amqp://a", broker_failover_strategy="shuffle").conf) == "amqp://a"


@pytest.mark.parametrize("strategy", ["os.sep", "no-such", lambda urls: ["amqp://elsewhere"]])
def test_strategies_that_cannot_be_used(strategy: Any) -> None:
    with pytest.raises(ConfigurationError):
        broker_url(app(broker_url=URLS, broker_failover_strategy=strategy).conf)


def test_the_first_server_of_the_strategy_is_used(rabbitmq_url: str) -> None:
    with TCPProxy.to(rabbitmq_url) as one, TCPProxy.to(rabbitmq_url) as other:
        conf = app(broker_url=[one.url(rabbitmq_url), other.url(rabbitmq_url)], broker_failover_strategy=backwards).conf
        broker = open_broker(conf)
        broker.size("nothing")
        assert (one.accepted, other.accepted > 0) == (0, True)
        other.refuse()
        other.cut()
        deadline = time.monotonic() + 20
        while not one.accepted and time.monotonic() < deadline:
            try:
                broker.size("nothing")
            except OperationalError:
                time.sleep(0.05)
        assert one.accepted
        broker.close()


# -- logging in ------------------------------------------------------------------------------------


def test_the_login_method_reaches_the_driver() -> None:
    broker: Any = open_broker(app(broker_url="amqp://host", broker_login_method="EXTERNAL").conf)
    assert broker.options.transport["login_method"] == "EXTERNAL"
    external = addresses("amqp://host", broker.options)[0].parameters(1.0, "n").credentials
    assert type(external).__name__ == "ExternalCredentials"
    plain = addresses("amqp://host?login_method=amqplain", broker.options)[0].parameters(1.0, "n").credentials
    assert type(plain).__name__ == "PlainCredentials"
    with pytest.raises(ConfigurationError, match="PLAIN or EXTERNAL"):
        addresses("amqp://host", Options(transport={"login_method": "KERBEROS"}))


# -- result stores ---------------------------------------------------------------------------------


class OwnBackend(MemoryBackend):
    """A project's own."""


@pytest.mark.parametrize("named", [OwnBackend, f"{__name__}:OwnBackend"])
@pytest.mark.parametrize("url", ["mine", "mine://there", "mine+x://there"])
def test_a_result_backend_of_ones_own(named: Any, url: str) -> None:
    backend = app(broker_url="memory://", result_backend=url, override_backends={"mine": named}).backend
    assert type(backend) is OwnBackend
    assert backend.url.startswith("mine")


@pytest.mark.parametrize("named", ["os.sep", "nowhere:Backend", Options])
def test_what_is_no_result_backend_is_refused(named: Any) -> None:
    with pytest.raises(ConfigurationError):
        open_backend(app(result_backend="mine://", override_backends={"mine": named}).conf)


def through(proxy: TCPProxy, redis_url: str, **settings: Any) -> Backend:
    return open_backend(app(broker_url="memory://", result_backend=proxy.url(redis_url), **settings).conf)


def test_a_broken_store_is_asked_again_if_wanted(redis_url: str) -> None:
    with TCPProxy.to(redis_url) as proxy:
        once = through(proxy, redis_url)
        again = through(proxy, redis_url, redis_retry_on_timeout=True)
        for backend in (once, again):
            backend.store([backend.encode(Meta(task_id="kept", status="SUCCESS", result=1))])
            proxy.cut()
            if backend is once:
                with pytest.raises(OperationalError):
                    backend.get(["kept"])
            else:
                assert backend.get(["kept"])["kept"].result == 1
            backend.close()


def test_a_store_that_stays_away_is_asked_as_often_as_settings_say(redis_url: str) -> None:
    with TCPProxy.to(redis_url) as proxy:
        backend = through(
            proxy,
            redis_url,
            result_backend_always_retry=True,
            result_backend_max_retries=4,
            result_backend_base_sleep_between_retries_ms=1,
            result_backend_max_sleep_between_retries_ms=2,
        )
        proxy.cut_after(0, "down")
        with pytest.raises(OperationalError):
            backend.restore_group("g")
        assert proxy.accepted == 1 + 4
        backend.close()


def test_a_store_that_comes_back_is_not_noticed(private_server: Callable[[str], PrivateServer]) -> None:
    server = private_server("redis")
    backend = open_backend(
        app(broker_url="memory://", result_backend=server.url, result_backend_always_retry=True).conf
    )
    backend.save_group("g", [1])
    server.stop()
    with pytest.raises(OperationalError):
        open_backend(app(broker_url="memory://", result_backend=server.url).conf).restore_group("g")
    starting = threading.Timer(0.3, server.start)
    starting.start()
    assert backend.restore_group("g") is None
    backend.save_group("g", [2])
    assert backend.restore_group("g") == [2]
    starting.join()
    backend.close()


@pytest.mark.parametrize(("kept", "cache_max"), [(-1, None), (0, sys.maxsize), (7, 7)])
def test_how_many_results_of_rpc_are_kept(kept: int, cache_max: int | None) -> None:
    backend = open_backend(app(broker_url="amqp://host", result_backend="rpc://", result_cache_max=kept).conf)
    assert backend.options.transport.get("cache_max") == cache_max


# -- other names -----------------------------------------------------------------------------------


def test_a_url_for_reading_alone_is_the_brokers() -> None:
    assert broker_url(app(broker_read_url="memory://r").conf) == "memory://r"
    assert broker_url(app(broker_read_url="memory://r", broker_url="memory://b").conf) == "memory://b"
    assert broker_url(app(broker_write_url="memory://w", broker_url="memory://b").conf) == "memory://w"


def test_the_type_of_the_queues_with_delayed_tasks_reaches_the_driver() -> None:
    settings = {"broker_url": "amqp://host", "broker_native_delayed_delivery_queue_type": "classic"}
    assert open_broker(app(**settings).conf).options.transport["native_delayed_delivery_queue_type"] == "classic"


def test_celerys_variable_for_revoked_tasks() -> None:
    assert Settings(environ={"CELERY_WORKER_REVOKE_EXPIRES": "10800"}).task_revoke_expires == 10800


# -- what has no effect ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "told"),
    [
        ("redis://", {"visibility_timeout": 3600, "client_name": "n", "global_keyprefix": "p"}, ["visibility_timeout"]),
        ("rediss://", {"fanout_prefix": True, "fanout_patterns": False}, ["fanout_patterns"]),
        (
            "amqps://",
            {"confirm_publish": True, "queue_type": "quorum", "visibility_timeout": 1},
            ["visibility_timeout"],
        ),
        ("postgresql://h/d", {"statement_timeout": 3, "priority_steps": [1]}, ["priority_steps"]),
        ("third-party://", {"anything": 1}, []),
    ],
)
def test_options_of_the_transport_that_nothing_uses_are_told(
    url: str, options: dict[str, Any], told: list[str]
) -> None:
    assert list(unused(url.partition(":")[0], options)) == told


def test_what_has_no_effect_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    options = {"polling_interval": 1.0}
    open_broker(app(broker_url="memory://w", broker_read_url="memory://r", broker_transport_options=options).conf)
    texts = [record.getMessage() for record in caplog.records]
    assert any("'polling_interval'" in text and "woken" in text for text in texts)
    assert any("broker_read_url" in text for text in texts)
