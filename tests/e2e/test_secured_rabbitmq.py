"""RabbitMQ over TLS: with an authority of one's own, with a client's certificate, results by ``rpc://`` included."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from secured import carry_message, one_line, run_tasks
from services import PrivateServer
from umbel import Umbel
from umbel.brokers import open_broker
from umbel.brokers.base import Broker, Options
from umbel.errors import BrokerError, ConfigurationError, OperationalError, PublishTimeout
from workers import Fleet, fleet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    """A RabbitMQ with TLS, which takes ten seconds to start."""
    started = PrivateServer.create("rabbitmq-secured")
    yield started
    started.discard()


@pytest.fixture
def connect(server: PrivateServer) -> Iterator[Callable[..., Broker]]:
    opened: list[Broker] = []

    def make(url: str = server.url, **ssl: object) -> Broker:
        opened.append(open_broker(url, Options(ssl=ssl or None)))
        return opened[-1]

    yield make
    for broker in opened:
        broker.close()


Connect = Callable[..., Broker]


def files(server: PrivateServer, ca: str = "ca", client: str = "") -> dict[str, str]:
    """TLS options, with the names of Celery's."""
    tls = server.home / "tls"
    own = {"certfile": f"{tls / client}.pem", "keyfile": f"{tls / client}.key"} if client else {}
    return {"ca_certs": f"{tls / ca}.pem", **own}


def test_a_message_over_tls(server: PrivateServer, connect: Connect) -> None:
    carry_message(connect(**files(server)))


def test_a_message_with_a_client_certificate(server: PrivateServer, connect: Connect) -> None:
    carry_message(connect(**files(server, client="client"), cert_reqs="required", check_hostname=True))


def test_a_login_by_the_client_certificate_alone(server: PrivateServer) -> None:
    """``broker_login_method``: the user is the common name in the certificate."""
    server.server.add_user("umbel client")
    url = server.url.replace("guest:guest@", "")
    app = Umbel(
        "external",
        set_as_current=False,
        broker_url=url,
        broker_login_method="EXTERNAL",
        broker_use_ssl=files(server, client="client"),
    )
    carry_message(app.broker)
    app.close()
    without = Umbel(
        "none", set_as_current=False, broker_url=url, broker_login_method="EXTERNAL", broker_use_ssl=files(server)
    )
    with pytest.raises(BrokerError) as caught:
        without.broker.size("q")
    one_line(caught.value, "refuses the login")
    without.close()


def test_tls_by_the_option_alone(server: PrivateServer, connect: Connect) -> None:
    """A plain URL and TLS options, as Celery has it."""
    carry_message(connect(server.url.replace("amqps", "amqp"), **files(server)))


def test_a_client_certificate_of_another_authority(server: PrivateServer, connect: Connect) -> None:
    with pytest.raises(OperationalError) as caught:
        connect(**files(server, client="stranger")).size("q")
    one_line(caught.value, "amqps://guest@127.0.0.1", "certificate?")


@pytest.mark.parametrize(
    ("ca", "options", "word"),
    [
        ("other-ca", {}, "certificate verify failed"),
        ("ca", {"server_hostname": "elsewhere.example"}, "elsewhere.example"),
    ],
    ids=["authority", "name"],
)
def test_a_server_that_is_not_trusted(
    server: PrivateServer, connect: Connect, ca: str, options: dict[str, str], word: str
) -> None:
    with pytest.raises(OperationalError) as caught:
        connect(**files(server, ca=ca), **options).size("q")
    one_line(caught.value, "amqps://guest@127.0.0.1", word)


def test_the_systems_authorities_are_trusted_without_options(connect: Connect) -> None:
    with pytest.raises(OperationalError) as caught:
        connect().size("q")
    one_line(caught.value, "certificate verify failed")


@pytest.mark.parametrize("mode", ["none", 0])
def test_an_untrusted_server_can_be_accepted_on_request(
    server: PrivateServer, connect: Connect, mode: str | int
) -> None:
    assert connect(**files(server, ca="other-ca"), cert_reqs=mode).size("q").ready == 0


def test_sending_says_that_the_server_is_not_trusted(server: PrivateServer) -> None:
    app = Umbel("sender", broker=server.url, broker_use_ssl=files(server, ca="other-ca"), publish_timeout=0.5)
    with app, pytest.raises(PublishTimeout) as caught:
        app.send_task("a.task")
    one_line(caught.value, "certificate verify failed")


@pytest.mark.parametrize("name", ["ca_certs", "certfile"])
def test_a_missing_file_is_named(
    server: PrivateServer, connect: Connect, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = str(server.home / "tls" / "missing.pem")
    with pytest.raises(ConfigurationError) as caught:
        connect(**(files(server) | {name: missing})).size("q")
    one_line(caught.value, missing, "No such file")
    assert capfd.readouterr().err == ""


def test_a_missing_file_ends_sending_at_once(server: PrivateServer) -> None:
    app = Umbel("sender", broker=server.url, broker_use_ssl={"ca_certs": "missing.pem"})
    with app, pytest.raises(ConfigurationError) as caught:
        app.send_task("a.task")
    one_line(caught.value, "missing.pem")


def test_an_unknown_option_is_named(connect: Connect) -> None:
    with pytest.raises(ConfigurationError, match="cafile"):
        connect(cafile="x").size("q")


def test_a_wrong_password(server: PrivateServer, connect: Connect) -> None:
    with pytest.raises(BrokerError) as caught:
        connect(server.url.replace("guest:guest", "guest:s3cret"), **files(server)).size("q")
    one_line(caught.value, "refuses the login")
    assert "s3cret" not in str(caught.value)


@pytest.fixture
def urls(server: PrivateServer) -> tuple[str, str]:
    return server.url, "rpc://"


@pytest.fixture
def workers(server: PrivateServer, urls: tuple[str, str], tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, *urls, UMBEL_BROKER_USE_SSL=json.dumps(files(server, client="client"))) as made:
        yield made


def test_a_worker_runs_tasks_and_answers_by_rpc(workers: Fleet, tasks: ModuleType) -> None:
    run_tasks(workers, tasks)
