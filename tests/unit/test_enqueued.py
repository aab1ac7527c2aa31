"""Assertions about what was enqueued, and what they say."""

from collections.abc import Iterator
from typing import Any

import pytest

from umbel import Umbel
from umbel.testing import InProcessWorker, assert_enqueued, assert_not_enqueued, enqueued, waiting
from umbel.testing.apps import app_for_tests


@pytest.fixture
def app() -> Iterator[Umbel]:
    with app_for_tests() as app:
        app.make_task(lambda *args, **kwargs: None, name="add")
        app.make_task(lambda *args, **kwargs: None, name="mail")
        yield app


def test_what_waits_is_found(app: Umbel) -> None:
    add, mail = app.tasks["add"], app.tasks["mail"]
    assert_not_enqueued()
    first = add.delay(1, 2)
    add.apply_async(([1, (2, 3)],), {"deep": {"t": (1,)}}, queue="other", countdown=60)
    assert [call.id for call in assert_enqueued(add, args=(1, 2))] == [first.id]
    assert len(assert_enqueued("add")) == 2
    assert_enqueued(add, count=2)
    (late,) = assert_enqueued(add, args=[(1, [2, 3])], kwargs={"deep": {"t": [1]}}, queue="other")
    assert late.eta is not None and late.queue == "other"
    assert_not_enqueued(mail)
    assert_not_enqueued(add, args=(2, 1))
    assert_not_enqueued(add, queue="nowhere")
    with InProcessWorker(app) as worker:
        worker.drain()
        assert_not_enqueued(add, queue="celery")


def test_failures_list_what_was_enqueued(app: Umbel) -> None:
    add, mail = app.tasks["add"], app.tasks["mail"]
    with pytest.raises(AssertionError) as failure:
        assert_enqueued(mail)
    assert str(failure.value) == "mail was not enqueued\nnothing was enqueued"
    with InProcessWorker(app):
        add.delay(1, y=2)
        add.apply_async((3,), queue="other", countdown=60)
        with pytest.raises(AssertionError) as failure:
            assert_enqueued(mail, args=("ada",), queue="mails")
        assert str(failure.value) == (
            "mail with args=('ada',), queue='mails' was not enqueued\n"
            "enqueued were:\n  add(1, y=2) in celery\n  add(3) in other, due in 60 s"
        )
        with pytest.raises(AssertionError, match=r"add was enqueued 2 times, not once\nenqueued were:"):
            assert_enqueued(add, count=1)
        with pytest.raises(AssertionError, match=r"add with args=\(3,\) was enqueued once\nenqueued were:"):
            assert_not_enqueued(add, args=(3,))
        with pytest.raises(AssertionError, match=r"a task was enqueued 2 times\nenqueued were:"):
            assert_not_enqueued(app=app)


def test_in_eager_mode_the_reason_is_told(app: Umbel) -> None:
    app.conf.task_always_eager = True
    app.tasks["add"].delay(1)
    with pytest.raises(AssertionError, match="task_always_eager is on"):
        assert_enqueued("add")


def test_what_a_block_sends_is_told_also_when_it_was_run(app: Umbel) -> None:
    add, mail = app.tasks["add"], app.tasks["mail"]
    mail.delay("before")
    with InProcessWorker(app) as worker:
        with enqueued(add, args=(1,), count=2, queue="celery") as calls:
            add.delay(1)
            worker.drain()
            assert [str(call) for call in calls] == ["add(1) in celery"]
            (add.s(2) | add.si(1)).delay()
            worker.drain()
        assert [call.args for call in calls] == [[1], [2], [1]]
    with pytest.raises(AssertionError, match="mail was not enqueued\nenqueued were:\n  add"), enqueued(mail):
        add.delay(5)
    with enqueued() as calls:
        pass
    assert calls == []
    with enqueued(count=0):
        waiting()


def test_errors_of_the_block_come_first(app: Umbel) -> None:
    with pytest.raises(KeyError), enqueued("add"):
        raise KeyError("own")


def test_the_queues_of_other_brokers_are_looked_at(tmp_path: Any) -> None:
    with Umbel("elsewhere", broker=f"sqlite:///{tmp_path}/a.db", set_as_current=False) as app:
        add = app.make_task(lambda x: None, name="add")
        add.delay(1)
        assert_enqueued(add, args=(1,))
        assert_not_enqueued(add, args=(2,))
