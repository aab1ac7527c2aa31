"""``umbel migrate``: copies unless told to move, and says how much."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from umbel import Umbel
from umbel.cli import umbel

OLD, NEW = "memory://cli-migrate-old", "memory://cli-migrate-new"


@pytest.fixture
def apps() -> Iterator[tuple[Umbel, Umbel]]:
    with Umbel(broker=OLD, set_as_current=False) as old, Umbel(broker=NEW, set_as_current=False) as new:
        yield old, new
        for app in (old, new):
            for queue in app.broker.queues():
                app.broker.delete(queue)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(umbel, ["migrate", OLD, NEW, "-t", "0.05", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_copied(apps: tuple[Umbel, Umbel]) -> None:
    old, new = apps
    sent = [old.send_task("one").id for _ in range(3)]
    old.send_task("one", countdown=60)
    output = run("--limit", "2")
    assert "2 messages copied" in output
    assert "1 delayed message left" in output
    assert [message.id for message in new.broker.peek("celery")] == sent[:2]
    assert [message.id for message in old.broker.peek("celery")] == sent


def test_moved_by_queue_and_task(apps: tuple[Umbel, Umbel]) -> None:
    old, new = apps
    old.send_task("one")
    other = old.send_task("two").id
    emails = old.send_task("two", queue="emails").id
    old.send_task("two", queue="untouched")
    assert "2 messages moved" in run("-a", "-Q", "celery:imported,emails", "-T", "two")
    assert [message.id for message in new.broker.peek("imported")] == [other]
    assert [message.id for message in new.broker.peek("emails")] == [emails]
    assert [old.broker.size(name).ready for name in ("celery", "emails", "untouched")] == [1, 0, 1]
