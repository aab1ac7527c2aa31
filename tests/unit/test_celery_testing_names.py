"""What stands for ``celery.contrib.testing``: applications and messages."""

import json

import pytest

from umbel import ResultSet, Umbel, current_app
from umbel.compat.celery.contrib.testing.manager import Manager
from umbel.testing import InProcessWorker
from umbel.testing.apps import TestApp as make_app
from umbel.testing.apps import app_for_tests, current, set_trap, setup_default_app
from umbel.testing.celery_mocks import ContextMock, TaskMessage, TaskMessage1, task_message_from_sig
from umbel.testing.celery_worker import setup_app_for_worker


def test_applications_for_tests() -> None:
    with app_for_tests() as outer:
        app = make_app("proj", {"timezone": "Asia/Tokyo"}, strict_typing=False)
        assert (app.main, app.conf.timezone, app.strict_typing) == ("proj", "Asia/Tokyo", False)
        assert app.conf.broker_url != make_app().conf.broker_url and current_app == outer
        named = make_app(broker="memory://mine", backend="memory://yours")
        assert (named.conf.broker_url, named.conf.result_backend) == ("memory://mine", "memory://yours")
        with setup_default_app(app):
            assert current_app == app
            with set_trap(app), pytest.raises(RuntimeError, match="depends on the current application"):
                current_app.conf  # noqa: B018
            with setup_default_app(app, use_trap=True), pytest.raises(RuntimeError):
                current_app.send_task("add")
            assert current_app == app
        assert current_app == outer
        with current(outer):
            setup_app_for_worker(app, "INFO", "")
            assert current_app == app and app.finalized


def test_messages() -> None:
    message = TaskMessage("add", id="1", args=(1, 2), kwargs={"z": 3}, callbacks=[{"task": "mul"}], shadow="plus")
    args, kwargs, embed = message.payload
    assert (args, kwargs, embed["callbacks"]) == ([1, 2], {"z": 3}, [{"task": "mul"}])
    assert message.headers == {"id": "1", "task": "add", "shadow": "plus"}
    assert json.loads(message.body) == [args, kwargs, embed] and message.content_type == "application/json"
    old = TaskMessage1("add", args=(1,), retries=2)
    assert old.headers == {} and (old.payload["task"], old.payload["args"], old.payload["retries"]) == ("add", [1], 2)


def test_the_message_of_a_signature() -> None:
    app = Umbel("proj", broker="memory://", set_as_current=False)
    add = app.make_task(lambda x, y: x + y, name="add")
    signature = add.s(1, 2).set(countdown=60, expires=90, priority=3)
    message = task_message_from_sig(app, signature)
    assert message.headers["task"] == "add" and message.headers["id"] and message.payload[0] == [1, 2]
    assert message.headers["eta"] < message.headers["expires"] and message.headers["priority"] == 3
    assert "task_id" not in signature.options


def test_a_mock_that_is_a_context() -> None:
    mock = ContextMock()
    with pytest.raises(KeyError), mock as entered:
        assert entered is mock
        raise KeyError


def test_a_manager_waits_for_results(capsys: pytest.CaptureFixture[str]) -> None:
    app = make_app()
    manager = Manager(app)
    there, missing = app.make_task(lambda: 5, name="five").delay(), app.AsyncResult("missing")
    with InProcessWorker(app) as worker:
        worker.drain()
    assert manager.join(ResultSet([there])) == [5]
    assert manager.missing_results(ResultSet([there, missing])) == ["missing"]
    with pytest.raises(AssertionError, match="Missing task results"):
        manager.join(ResultSet([there, missing]), max_retries=2, timeout=0.05)
    assert capsys.readouterr().out.count("Still waiting for ['missing']") == 2


def test_a_manager_is_sure_that_something_does_not_happen() -> None:
    errors = iter([ValueError(), ValueError()])

    def happens_the_third_time() -> None:
        for error in errors:
            raise error

    with pytest.raises(AssertionError, match="the thing"):
        Manager(make_app()).ensure_not_for_a_while(
            happens_the_third_time, ValueError, "the thing", interval_start=0.01, interval_step=0.0
        )
