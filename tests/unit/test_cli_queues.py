"""``umbel queues``, ``umbel purge`` and ``umbel dlq``: what is in the queues, and what commands do to it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from commands import memory_app, run
from umbel import Umbel
from umbel.brokers.base import Action, Settlement
from umbel.message import Message, read_message
from umbel.queues import Queue


@pytest.fixture
def app() -> Umbel:
    return memory_app(task_queues=["celery", "emails"])


def settle(app: Umbel, queue: str, action: Action, reason: str = "") -> None:
    """End every message of a queue in this way."""
    with app.broker.consumer([Queue(queue)], name="test") as consumer:
        held = consumer.receive(100, 0)
        consumer.settle([Settlement(delivery, action, reason=reason) for delivery in held])


def send(app: Umbel, *names: str, queue: str = "celery", **options: object) -> list[str]:
    return [app.send_task(name, [1], {"k": "v"}, queue=queue, **options).id for name in names]


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_queues_shows_every_state_by_queue(app: Umbel) -> None:
    send(app, "a", "a", "b")
    settle(app, "celery", Action.PARK)
    send(app, "a", "a")
    settle(app, "celery", Action.DEAD_LETTER, "why not")
    send(app, "a", countdown=60)
    send(app, "a", "a", "a", "a")
    send(app, "c", queue="other")
    holder = app.broker.consumer([Queue("celery")], name="test")
    assert len(holder.receive(1, 0)) == 1
    result = run(app, "queues")
    assert result.exit_code == 0, result.output
    assert rows(result.stdout) == [
        ["queue", "ready", "delayed", "held", "parked", "dead", "parked tasks"],
        ["celery", "3", "1", "1", "3", "2", "a 2, b 1"],
        ["emails", "0", "0", "0", "0", "0", ""],
        ["other", "1", "0", "0", "0", "0", ""],
    ]
    (document,) = json.loads(run(app, "queues", "celery", "--json").stdout)
    assert document == {
        "queue": "celery",
        "ready": 3,
        "delayed": 1,
        "held": 1,
        "parked": 3,
        "dead": 2,
        "parked_tasks": {"a": 2, "b": 1},
    }
    holder.close()


def test_purge_asks_first(app: Umbel) -> None:
    send(app, "a", "a")
    send(app, "a", countdown=60)
    send(app, "a", queue="other")
    result = run(app, "purge", answer="n\n")
    assert result.exit_code == 1
    assert "Remove 3 waiting messages from celery, emails?" in result.output
    assert app.broker.size("celery").ready == 2
    result = run(app, "purge", answer="y\n")
    assert (result.exit_code, result.stdout) == (0, "celery: 3 messages removed\nemails: 0 messages removed\n")
    assert app.broker.size("celery").ready == 0 and app.broker.size("other").ready == 1


def test_purge_without_anybody_to_ask_removes_nothing(app: Umbel) -> None:
    send(app, "a")
    assert run(app, "purge").exit_code == 1
    assert app.broker.size("celery").ready == 1


def test_purge_of_named_queues_by_force(app: Umbel) -> None:
    send(app, "a")
    send(app, "a", queue="other")
    result = run(app, "purge", "other,emails", "-f", "--json")
    assert json.loads(result.stdout) == {"other": 1, "emails": 0}
    assert app.broker.size("celery").ready == 1


# -- dead letters --


@pytest.fixture
def dead(app: Umbel) -> Sequence[str]:
    """Ids of the tasks of three dead letters: two of celery, one of emails."""
    ids = send(app, "a", "b") + send(app, "mail", queue="emails")
    settle(app, "celery", Action.DEAD_LETTER, "killed its worker\n3 times")
    settle(app, "emails", Action.DEAD_LETTER, "no such box")
    return ids


def test_list(app: Umbel, dead: Sequence[str]) -> None:
    head, *lines = rows(run(app, "dlq", "list").stdout)
    assert head == ["id", "queue", "task", "task id", "when", "deliveries", "reason"]
    assert [(line[1], line[2], line[3], line[6]) for line in lines] == [
        ("celery", "a", dead[0], "killed its worker 3 times"),
        ("celery", "b", dead[1], "killed its worker 3 times"),
        ("emails", "mail", dead[2], "no such box"),
    ]
    documents = json.loads(run(app, "dlq", "list", "--queue", "celery", "--limit", "1", "--json").stdout)
    assert [document["task_id"] for document in documents] == [dead[0]]


def test_show(app: Umbel, dead: Sequence[str]) -> None:
    document = json.loads(run(app, "dlq", "show", dead[2], "--json").stdout)
    assert document["args"] == [1] and document["kwargs"] == {"k": "v"}
    assert document["headers"]["task"] == "mail" and document["reason"] == "no such box"
    result = run(app, "dlq", "show", dead[0])
    assert result.exit_code == 0, result.output
    assert "killed its worker" in result.stdout and '{"k":"v"}' in result.stdout


def test_show_of_what_cannot_be_read(app: Umbel) -> None:
    message = read_message(b'{"task": "a", "id": "t1"}', b"{", queue="celery")
    forbidden = Message(
        id="t2",
        task="a",
        queue="celery",
        headers=b"not json",
        body=b"\x80",
        content_type="application/x-python-serialize",
    )
    app.broker.publish([message, forbidden])
    settle(app, "celery", Action.DEAD_LETTER, "unreadable")
    document = json.loads(run(app, "dlq", "show", "t1", "--json").stdout)
    assert document["args"] is None and document["body"] == "{" and "DecodeError" in document["unreadable"]
    document = json.loads(run(app, "dlq", "show", "t2", "--json").stdout)
    assert document["headers"] == "not json" and "ContentDisallowed" in document["unreadable"]


def test_replay(app: Umbel, dead: Sequence[str]) -> None:
    result = run(app, "dlq", "replay", dead[1])
    assert (result.exit_code, result.stdout) == (0, "1 message sent again\n")
    assert [message.id for message in app.broker.peek("celery")] == [dead[1]]
    assert app.broker.size("celery").dead == 1
    assert run(app, "dlq", "replay", "--all", "-Q", "celery").stdout == "1 message sent again\n"
    assert (app.broker.size("celery").ready, app.broker.size("emails").dead) == (2, 1)


def test_purge_of_dead_letters(app: Umbel, dead: Sequence[str]) -> None:
    assert run(app, "dlq", "purge", "--all", answer="n\n").exit_code == 1
    assert run(app, "dlq", "purge", dead[2], dead[0], "--force").stdout == "2 messages removed\n"
    assert [letter.message.id for letter in app.broker.dead_letters("celery")] == [dead[1]]
    assert run(app, "dlq", "purge", "--all", answer="y\n").stdout.endswith("1 message removed\n")
    assert app.broker.size("celery").ready == 0 and app.broker.dead_letters("celery") == []


@pytest.mark.parametrize("command", ["replay", "purge"])
@pytest.mark.parametrize("arguments", [[], ["nobody"], ["nobody", "--all"]])
def test_wrong_usage_changes_nothing(app: Umbel, dead: Sequence[str], command: str, arguments: list[str]) -> None:
    result = run(app, "dlq", command, *arguments, *(["-f"] if command == "purge" else []))
    assert result.exit_code == 2
    assert (app.broker.size("celery").dead, app.broker.size("emails").dead) == (2, 1)
    assert app.broker.size("celery").ready == 0


def test_one_missing_id_stops_the_whole_command(app: Umbel, dead: Sequence[str]) -> None:
    result = run(app, "dlq", "replay", dead[0], "nobody")
    assert result.exit_code == 2 and "no dead letter nobody" in result.output
    assert app.broker.size("celery").dead == 2
