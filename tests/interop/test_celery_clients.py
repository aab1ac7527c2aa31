"""A real Celery client sends, an Umbel worker runs, and the client reads the result."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Any

import pytest

from interop.rig import TIMEOUT, CeleryClient, Rig
from workers import wait_for


@pytest.fixture(scope="module")
def client(both: Rig) -> Iterator[CeleryClient]:
    both.umbel_worker("-Q", "celery,other", INTEROP_ACCEPT="json,pickle,yaml,msgpack")
    return both.celery_client()


def test_delay_and_send_task(client: CeleryClient) -> None:
    assert client.value(client.delay("shared.add", 2, 3)) == 5
    assert client.value(client.delay("shared.add", x="a", y="b")) == "ab"
    assert client.value(client.send("shared.add", [2, 3], by_name=True)) == 5


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "zlib", "bzip2", "gzip", "lzma"])
def test_serializers_and_compression(client: CeleryClient, serializer: str, compression: str | None) -> None:
    args = [1, "zwei é中😀", None, True, 4.5, [6], {"k": "v"}]
    sent = client.send("shared.echo", args, {"u": "x" * 3000}, serializer=serializer, compression=compression)
    assert client.value(sent) == [args, {"u": "x" * 3000}]


def test_what_a_task_sees_of_its_message(client: CeleryClient, both: Rig) -> None:
    sent = client.send(
        "shared.look", headers={"x-tenant": "acme"}, time_limit=60, soft_time_limit=50, retries=2, expires=300
    )
    seen = client.value(sent)
    assert seen["kind"] == "umbel" and seen["id"] == seen["root_id"] == seen["correlation_id"] == sent
    assert seen["headers"] == {"x-tenant": "acme"}
    assert seen["timelimit"] == [60, 50] and seen["retries"] == 2
    assert seen["parent_id"] is None and seen["argsrepr"] == "()" and seen["expires"]
    assert both.runs_of(sent) == {"umbel": 1}


def test_countdown_and_eta_are_kept(client: CeleryClient, both: Rig) -> None:
    started = time.time()
    by_countdown = client.send("shared.add", [1, 1], countdown=2.5)
    moment = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=5))) + datetime.timedelta(seconds=2.5)
    by_eta = client.send("shared.add", [1, 2], eta=moment.isoformat())
    assert client.value(client.delay("shared.add", 0, 0)) == 0
    assert not both.runs_of(by_countdown), "what is due later does not hold up what is due now"
    assert (client.value(by_countdown), client.value(by_eta)) == (2, 3)
    assert 2.4 < time.time() - started < 5
    assert both.runs_of(by_countdown) == both.runs_of(by_eta) == {"umbel": 1}


def test_an_expired_task_is_revoked(client: CeleryClient, both: Rig) -> None:
    blocker = client.send("shared.wait", [1.5])
    expiring = client.send("shared.add", [1, 1], expires=0.3)
    client.value(blocker)
    client.value(client.delay("shared.add", 0, 0))
    assert not both.runs_of(expiring)
    if both.broker.startswith("redis"):  # RabbitMQ drops it by itself
        answer = client.get(expiring)
        assert (answer["state"], answer["exc_type"]) == ("REVOKED", "TaskRevokedError")
        assert answer["exc_module"] == "celery.exceptions" and answer["args"] == ["'expired'"]


@pytest.mark.parametrize("options", [{"priority": 9}, {"priority": 0}, {"queue": "other"}, {"routing_key": "celery"}])
def test_priorities_and_queues(client: CeleryClient, options: dict[str, Any]) -> None:
    seen = client.value(client.send("shared.look", **options))
    assert seen["kind"] == "umbel"
    assert seen["priority"] == options.get("priority", seen["priority"])
    assert seen["routing_key"] == options.get("queue", "celery")


def test_callbacks(client: CeleryClient, both: Rig) -> None:
    second = client.send("shared.add", [0, 0])
    link = {"task": "shared.add", "args": [10], "options": {"task_id": f"linked-{second}"}}
    first = client.send("shared.add", [1, 2], link=[link])
    assert client.value(first) == 3
    assert client.value(f"linked-{second}") == 13
    assert client.get(first)["children"] == [f"linked-{second}"]


def test_error_callbacks(client: CeleryClient, both: Rig) -> None:
    errback = {"task": "shared.failed"}
    failing = client.send("shared.throw", ["value"], link_error=[errback])
    assert client.get(failing)["exc_type"] == "ValueError"
    wait_for(lambda: any(noted.endswith(f"after {failing}") for _, noted in both.runs()), TIMEOUT, "error callback")


@pytest.mark.parametrize(
    ("what", "cls", "args"),
    [
        ("value", "builtins.ValueError", ["'no luck'"]),
        ("key", "builtins.KeyError", ["'k'"]),
        ("own", "shared.tasks.OwnError", ["'of the application'", "7"]),
        ("local", "known.nowhere.Local", ["'far'", "1"]),
    ],
)
def test_exceptions_arrive_as_the_right_classes(client: CeleryClient, what: str, cls: str, args: list[str]) -> None:
    answer = client.get(client.delay("shared.throw", what))
    module, _, name = cls.rpartition(".")
    assert answer["state"] == "FAILURE"
    assert answer["exc_type"] == name
    if what != "local":  # a class that cannot be found is made anew, in a module of Celery's choice
        assert answer["exc_module"] == module
    assert answer["args"] == args
    assert "Traceback" in answer["traceback"] and "in throw" in answer["traceback"]


def test_retries(client: CeleryClient, both: Rig) -> None:
    sent = client.delay("shared.retry_until", 2)
    assert client.value(sent) == 2
    assert both.runs_of(sent) == {"umbel": 3}
    answer = client.get(client.delay("shared.give_up"))
    assert (answer["exc_type"], answer["exc_module"]) == ("MaxRetriesExceededError", "celery.exceptions")


def test_ignored_results_are_not_stored(client: CeleryClient, both: Rig) -> None:
    sent = client.send("shared.add", [1, 1], ignore_result=True)
    wait_for(lambda: both.runs_of(sent), TIMEOUT)
    client.value(client.delay("shared.add", 0, 0))
    assert client.get(sent, timeout=0.3)["state"] == "PENDING"


def test_canvas_of_celery(client: CeleryClient) -> None:
    assert client.value(client.ask("chain", length=4)["id"]) == 4
    assert client.ask("group", size=20)["values"] == list(range(1, 21))


def test_protocol_1(client: CeleryClient, both: Rig) -> None:
    old = both.celery_client(INTEROP_PROTOCOL="1")
    assert old.value(old.delay("shared.add", 2, 3)) == 5
    assert old.value(old.send("shared.add", [2, 3], countdown=0.3, link=[{"task": "shared.add", "args": [1]}])) == 5
    assert old.get(old.delay("shared.throw", "key"))["exc_type"] == "KeyError"
    old.stop()


def test_a_task_that_nobody_knows_waits_for_a_worker_that_does(client: CeleryClient, both: Rig) -> None:
    sent = client.send("shared.unknown", [1], by_name=True)
    app = both.umbel_client()
    wait_for(lambda: app.broker.parked("celery") == {"shared.unknown": 1}, TIMEOUT)
    assert client.get(sent, timeout=0.2)["state"] == "PENDING"
