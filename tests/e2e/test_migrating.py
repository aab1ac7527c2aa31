"""Messages moved between queues and brokers: all of them, as they were, and those that are not wanted stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from umbel import Umbel
from umbel.brokers import open_broker
from umbel.brokers.base import Broker, Options
from umbel.compat.celery.contrib import migrate as celery_migrate
from umbel.errors import ConfigurationError, OperationalError
from umbel.message import Message
from umbel.migrating import StopMoving, migrate, move_messages, move_tasks
from umbel.queues import Queue

SYSTEMS = ["memory", "sqlite", "redis", "postgresql", "rabbitmq"]

Place = Callable[[str], str]

pytestmark = pytest.mark.calm


def patience(broker: Broker) -> float:
    """Seconds until a queue can be taken for empty: RabbitMQ sends when it likes, others answer."""
    return 1.0 if broker.url.startswith("amqp") else 0.1


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """A fresh, empty place on a system, as a URL."""
    count = iter(range(10))

    def fresh(system: str) -> str:
        if system == "memory":
            return f"memory://migrating-{tmp_path.name}-{next(count)}"
        if system == "sqlite":
            return f"sqlite:///{tmp_path / f'{next(count)}.db'}"
        make: Callable[[str], str] = request.getfixturevalue("fresh_url")
        return make(system)

    return fresh


@pytest.fixture(params=SYSTEMS)
def app(request: pytest.FixtureRequest, place: Place) -> Iterator[Umbel]:
    with made(place(request.param)) as app:
        yield app


def made(url: str) -> Umbel:
    return Umbel(
        "moving", broker=url, backend="disabled://", task_queues={"celery": {}, "slow": {}}, set_as_current=False
    )


def only(system: str) -> Any:
    return pytest.mark.parametrize("app", [system], indirect=True)


def send(app: Umbel, number: int, name: str = "moving.add", **options: Any) -> list[str]:
    return [app.send_task(name, [at], {"x": "é"}, **options).id for at in range(number)]


def taken(broker: Broker, queue: str, limit: int = 1000) -> list[Message]:
    """What a consumer gets, in its order; it stays."""
    found: list[Message] = []
    with broker.consumer([Queue(name=queue)], name="looking@here", lease=10) as consumer:
        while batch := consumer.receive(limit, patience(broker)):
            found += [delivery.message for delivery in batch]
    return found


def ids(broker: Broker, queue: str) -> list[str]:
    return [message.id for message in taken(broker, queue)]


def test_moved_by_id_and_the_rest_stays_in_its_order(app: Umbel) -> None:
    sent = send(app, 12)
    moved = move_tasks(app, "slow", ids=sent[3:5], timeout=patience(app.broker))
    assert (moved.looked, moved.moved) == (12, 2)
    assert ids(app.broker, "slow") == sent[3:5]
    assert ids(app.broker, "celery") == sent[:3] + sent[5:]


def test_messages_go_as_they_are(app: Umbel) -> None:
    send(app, 1, priority=3, headers={"tenant": "a"}, expires=3600, reply_to="me")
    (before,) = taken(app.broker, "celery")
    move_tasks(app, "slow", timeout=patience(app.broker))
    (after,) = taken(app.broker, "slow")
    kept = ("id", "task", "headers", "body", "content_type", "content_encoding", "priority", "expires", "reply_to")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert after.queue == "slow"


@only("sqlite")
def test_moved_by_task_condition_and_number(app: Umbel) -> None:
    first, second = send(app, 5, "moving.first"), send(app, 5, "moving.second")
    assert move_tasks(app, "slow", tasks={"moving.second"}, limit=2, timeout=patience(app.broker)).moved == 2
    assert (
        move_tasks(app, "slow", where=lambda message: message.id == first[4], timeout=patience(app.broker)).moved == 1
    )
    assert ids(app.broker, "slow") == [*second[:2], first[4]]
    assert ids(app.broker, "celery") == first[:4] + second[2:]


@only("redis")
def test_more_than_one_batch(app: Umbel) -> None:
    sent = send(app, 350)
    moved = move_tasks(app, "slow", ids=set(sent[::2]), timeout=patience(app.broker))
    assert moved.moved == 175
    assert ids(app.broker, "slow") == sent[::2]
    assert ids(app.broker, "celery") == sent[1::2]


@only("sqlite")
def test_what_is_sent_to_a_queue_that_is_looked_at_is_not_met_again(app: Umbel) -> None:
    sent = send(app, 3)
    moved = move_tasks(app, "slow", queues=["celery", "slow"], timeout=patience(app.broker))
    assert moved.moved == 3
    assert sorted(ids(app.broker, "slow")) == sorted(sent)


@only("sqlite")
def test_delayed_messages_are_counted(app: Umbel) -> None:
    send(app, 2, countdown=3600)
    sent = send(app, 1)
    moved = move_tasks(app, "slow", timeout=patience(app.broker))
    assert (moved.moved, moved.delayed) == (1, 2)
    assert ids(app.broker, "slow") == sent


@only("sqlite")
def test_what_is_raised_leaves_all_where_it_is(app: Umbel) -> None:
    sent = send(app, 3)

    def fail(message: Message) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        move_messages(app.broker, [Queue(name="celery")], fail)
    assert ids(app.broker, "celery") == sent


@only("sqlite")
def test_stopped_when_it_is_enough(app: Umbel) -> None:
    sent = send(app, 3)

    def choose(message: Message) -> list[Message] | None:
        if message.id == sent[1]:
            raise StopMoving
        return []

    assert move_messages(app.broker, [Queue(name="celery")], choose, timeout=0.1).moved == 1
    assert ids(app.broker, "celery") == sent[1:]


@pytest.mark.parametrize(("source", "to"), [("redis", "rabbitmq"), ("rabbitmq", "postgresql"), ("sqlite", "redis")])
def test_from_one_broker_to_another(place: Place, source: str, to: str) -> None:
    with made(place(source)) as old, made(place(to)) as new:
        sent = send(old, 20) + send(old, 5, queue="slow")
        before = taken(old.broker, "celery")
        moved = migrate(old, new, queues={"celery": "celery", "slow": "other"}, timeout=patience(old.broker))
        assert moved.moved == 25
        after = taken(new.broker, "celery")
        assert [(m.id, m.headers, m.body) for m in after] == [(m.id, m.headers, m.body) for m in before]
        assert ids(new.broker, "other") == sent[20:]
        assert ids(old.broker, "celery") == ids(old.broker, "slow") == []


def test_nothing_leaves_for_a_broker_that_cannot_be_reached(place: Place) -> None:
    nowhere = open_broker("redis://127.0.0.1:1", Options(publish_timeout=0.3, connect_timeout=0.3))
    with made(place("sqlite")) as old:
        sent = send(old, 3)
        with pytest.raises(OperationalError):
            migrate(old, nowhere)
        assert ids(old.broker, "celery") == sent


def test_a_broker_is_not_migrated_to_itself(place: Place) -> None:
    url = place("sqlite")
    with pytest.raises(ConfigurationError, match="one broker"):
        migrate(url, url)


def test_by_urls_and_a_copy(place: Place) -> None:
    source, to = place("sqlite"), place("sqlite")
    with made(source) as old, made(to) as new:
        sent = send(old, 3)
        assert migrate(source, to, copy=True, limit=2, timeout=0.1).moved == 2
        assert ids(old.broker, "celery") == sent
        assert ids(new.broker, "celery") == sent[:2]
        assert migrate(source, to, timeout=0.1).moved == 3
        assert ids(old.broker, "celery") == []


# -- by Celery's names --


@only("sqlite")
def test_celerys_move_calls_with_body_and_message(app: Umbel) -> None:
    sent = send(app, 4)
    seen: list[Any] = []

    def predicate(body: Any, message: celery_migrate.QueuedMessage) -> Any:
        args, kwargs, _ = body
        assert kwargs == {"x": "é"}
        assert message.headers["id"] == message.task_id
        assert message.delivery_info["routing_key"] == "celery"
        return {0: Queue(name="slow"), 1: ("", "slow"), 2: True}.get(args[0])

    state = celery_migrate.move(
        predicate,
        app=app,
        routing_key="fast",
        source="celery",
        timeout=0.1,
        callback=lambda state, body, message: seen.append((message.task_id, body[0])),
    )
    assert (state.count, state.filtered, state.total_apx) == (4, 3, 4)
    assert seen == [(sent[0], [0]), (sent[1], [1]), (sent[2], [2])]
    assert ids(app.broker, "slow") == sent[:2]
    assert ids(app.broker, "fast") == [sent[2]]
    assert ids(app.broker, "celery") == [sent[3]]


@only("sqlite")
def test_celerys_ways_to_move(app: Umbel) -> None:
    sent = send(app, 6)
    other = send(app, 1, "moving.other")
    celery_migrate.move_task_by_id(sent[0], "a", app=app, timeout=0.1)
    celery_migrate.move_by_idmap({sent[1]: Queue(name="a"), sent[2]: "b"}, app=app, timeout=0.1)
    celery_migrate.move_by_taskmap({"moving.other": "b"}, app=app, timeout=0.1)
    celery_migrate.move_direct_by_id(sent[3], "w1@host", app=app, timeout=0.1)
    celery_migrate.move_direct(
        lambda body, message: celery_migrate.task_id_in({sent[4]}, body, message) and "w1@host", app=app, timeout=0.1
    )
    assert ids(app.broker, "a") == sent[:2]
    assert ids(app.broker, "b") == [sent[2], *other]
    assert ids(app.broker, "w1@host.dq2") == sent[3:5]
    assert ids(app.broker, "celery") == [sent[5]]


@only("sqlite")
def test_celerys_filter(app: Umbel) -> None:
    sent = send(app, 3) + send(app, 1, "moving.other")
    seen: list[str] = []

    def look(body: Any, message: celery_migrate.QueuedMessage) -> None:
        if len(seen) == 2:
            raise celery_migrate.StopFiltering
        seen.append(message.task_id)

    state = celery_migrate.start_filter(app, app, look, tasks="moving.add", timeout=0.1)
    assert seen == sent[:2]
    assert state.filtered == 0
    assert ids(app.broker, "celery") == sent
    seen.clear()
    celery_migrate.start_filter(app, app.broker, look, limit=2, ack_messages=True)
    assert ids(app.broker, "celery") == sent[2:]


def test_celerys_migrate_tasks(place: Place) -> None:
    source, to = place("sqlite"), place("sqlite")
    with made(source) as old, made(to) as new:
        sent = send(old, 3)
        celery_migrate.migrate_tasks(source, to, app=old, queues="celery:renamed", timeout=0.1)
        assert ids(old.broker, "celery") == sent
        celery_migrate.migrate_tasks(old, new, app=old, ack_messages=True, timeout=0.1)
        assert ids(old.broker, "celery") == []
        assert ids(new.broker, "renamed") == ids(new.broker, "celery") == sent
