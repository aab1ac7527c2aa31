"""What an outcome sends on: retries, callbacks, links of a chain, error callbacks, children."""

from __future__ import annotations

import datetime
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from umbel import Retry, Umbel, group
from umbel.execution import Outcome, execute_message
from umbel.message import Message, decode_headers
from umbel.retrying import backoff
from umbel.task import Task


@pytest.fixture
def app() -> Iterator[Umbel]:
    with Umbel("next", broker=f"memory://{uuid.uuid4()}", backend=f"memory://{uuid.uuid4()}") as made:
        yield made


def message_of(app: Umbel, task: Any, *args: Any, queue: str = "celery", **options: Any) -> Message:
    task.apply_async(args, queue=queue, **options)
    (message,) = app.broker.peek(queue, 2)
    app.broker.purge(queue)
    return message


def run(app: Umbel, task: Any, *args: Any, **options: Any) -> Outcome:
    return execute_message(app, message_of(app, task, *args, **options), hostname="w1@test")


def body(message: Message) -> Any:
    return json.loads(message.body)


def test_retry_is_part_of_the_outcome_and_keeps_the_call(app: Umbel) -> None:
    @app.task(bind=True)
    def flaky(self: Task[..., Any], x: int, y: int = 0) -> None:
        raise self.retry(exc=ValueError("later"), countdown=30)

    @app.task
    def other(x: Any) -> None: ...

    message = message_of(
        app, flaky, 5, queue="side", priority=7, headers={"tenant": "acme", "x-death": [1]}, link=other.s(),
        time_limit=9, shadow="nick", expires=600, group_id="g", group_index=3, root_id="the-root",
    )  # fmt: skip
    before = time.time()
    outcome = execute_message(app, message)
    assert (outcome.state, outcome.error_repr) == ("RETRY", "ValueError('later')")
    (again,) = outcome.publish
    assert app.broker.peek("side") == [], "nothing is sent before the settlement"
    old, new = decode_headers(message.headers), decode_headers(again.headers)
    assert (again.id, again.queue, again.priority, again.reply_to) == (message.id, "side", 7, message.reply_to)
    assert again.eta == pytest.approx(before + 30, abs=2)
    assert (new["retries"], new["parent_id"], new["root_id"]) == (1, message.id, "the-root")
    for name in ("shadow", "expires", "group", "group_index", "timelimit", "argsrepr", "kwargsrepr", "tenant"):
        assert new[name] == old[name], name
    assert "x-death" not in new
    assert body(again) == body(message)
    meta = json.loads(outcome.result.payload) if outcome.result else {}
    assert (meta["status"], meta["result"]["exc_type"], meta["date_done"]) == ("RETRY", "ValueError", None)


def test_retry_takes_other_arguments_and_options(app: Umbel) -> None:
    eta = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)

    @app.task(bind=True)
    def flaky(self: Task[..., Any], x: int) -> None:
        raise self.retry(args=(x + 1,), eta=eta, queue="elsewhere", priority=2)

    (again,) = run(app, flaky, 1).publish
    assert body(again)[0] == [2] and again.queue == "elsewhere" and again.priority == 2
    assert again.eta == eta.timestamp() and decode_headers(again.headers)["argsrepr"] == "(2,)"


def test_retry_without_raising_is_sent_all_the_same(app: Umbel) -> None:
    @app.task(bind=True)
    def both(self: Task[..., Any]) -> str:
        assert isinstance(self.retry(throw=False), Retry)
        return "done"

    outcome = run(app, both)
    assert (outcome.state, outcome.value, len(outcome.publish)) == ("SUCCESS", "done", 1)


def test_retries_end(app: Umbel) -> None:
    @app.task(bind=True, max_retries=2)
    def with_cause(self: Task[..., Any]) -> None:
        raise self.retry(exc=KeyError("cause"))

    @app.task(bind=True, max_retries=2)
    def without(self: Task[..., Any]) -> None:
        raise self.retry()

    @app.task(bind=True, max_retries=None)
    def for_ever(self: Task[..., Any]) -> None:
        raise self.retry()

    assert run(app, with_cause, retries=1).state == "RETRY"
    assert run(app, with_cause, retries=2).error_repr == "KeyError('cause')"
    outcome = run(app, without, retries=2)
    assert outcome.state == "FAILURE" and outcome.error_repr.startswith("MaxRetriesExceededError")
    assert outcome.publish == ()
    assert run(app, for_ever, retries=500).state == "RETRY"


def test_retry_of_a_direct_call_raises_the_cause(app: Umbel) -> None:
    @app.task(bind=True)
    def flaky(self: Task[..., Any], given: bool) -> None:
        try:
            raise ValueError("first")
        except ValueError as error:
            raise self.retry(exc=KeyError("given") if given else None) from error

    with pytest.raises(ValueError, match="first"):
        flaky(False)
    with pytest.raises(KeyError, match="given"):
        flaky(True)


@pytest.mark.parametrize(
    ("options", "error", "state"),
    [
        ({"autoretry_for": (ValueError,)}, ValueError, "RETRY"),
        ({"autoretry_for": [ValueError, KeyError]}, KeyError, "RETRY"),
        ({"autoretry_for": Exception}, OSError, "RETRY"),
        ({"autoretry_for": (ValueError,)}, OSError, "FAILURE"),
        ({"autoretry_for": (Exception,), "dont_autoretry_for": (KeyError,)}, KeyError, "FAILURE"),
        ({"autoretry_for": (Exception,), "retry_kwargs": {"max_retries": 0}}, OSError, "FAILURE"),
    ],
)
def test_autoretry(app: Umbel, options: dict[str, Any], error: type[Exception], state: str) -> None:
    @app.task(**options)
    def fail() -> None:
        raise error("x")

    outcome = run(app, fail)
    assert outcome.state == state
    assert outcome.error_repr == f"{error.__name__}('x')"
    assert outcome.traceback is not None and "in fail" in outcome.traceback


def test_autoretry_backs_off(app: Umbel) -> None:
    @app.task(autoretry_for=(OSError,), retry_backoff=0.5, retry_jitter=False, retry_backoff_max=3, max_retries=9)
    def fail() -> None:
        raise OSError

    pauses = []
    for retries in (0, 1, 2, 5):
        started = time.time()
        (again,) = run(app, fail, retries=retries).publish
        assert again.eta is not None
        pauses.append(again.eta - started)
    assert pauses == pytest.approx([0.5, 1.0, 2.0, 3.0], abs=0.3)


def test_backoff_with_jitter_stays_within_its_bounds() -> None:
    assert backoff(1, 3, 600, False) == 8
    assert backoff(1, 5000, 600, False) == 600
    drawn = [backoff(2, 4, 20, True) for _ in range(500)]
    assert min(drawn) >= 0 and max(drawn) <= 20 and len(set(drawn)) > 100


def test_callbacks_get_the_result_first_and_become_children(app: Umbel) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    outcome = run(app, add, 1, 2, link=[add.s(10), add.si(5, 5).set(queue="other"), group(add.s(1), add.s(2))])
    assert [body(message)[0] for message in outcome.publish] == [[3, 10], [5, 5], [3, 1], [3, 2]]
    assert [message.queue for message in outcome.publish] == ["celery", "other", "celery", "celery"]
    first = decode_headers(outcome.publish[0].headers)
    task_id = outcome.result.task_id if outcome.result else ""
    assert first["parent_id"] == first["root_id"] == task_id
    grouped = [decode_headers(message.headers) for message in outcome.publish[2:]]
    assert grouped[0]["group"] == grouped[1]["group"] and [g["group_index"] for g in grouped] == [0, 1]
    children = json.loads(outcome.result.payload)["children"] if outcome.result else []
    assert [child[0][0] for child in children[:2]] == [message.id for message in outcome.publish[:2]]
    assert [member[0][0] for member in children[2][1]] == [message.id for message in outcome.publish[2:]]


def test_chain_from_a_celery_client_goes_on(app: Umbel) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    chain = [add.s(4).set(task_id="third"), add.s(3).set(task_id="second")]
    outcome = run(app, add, 1, 2, chain=chain)
    (second,) = outcome.publish
    assert (second.id, body(second)[0]) == ("second", [3, 3])
    assert [link["options"]["task_id"] for link in body(second)[2]["chain"]] == ["third"]
    after = execute_message(app, second)
    (third,) = after.publish
    assert (third.id, body(third)[0], body(third)[2]["chain"]) == ("third", [6, 4], [])
    assert decode_headers(third.headers)["root_id"] == decode_headers(second.headers)["root_id"]
    assert execute_message(app, third).value == 10


def test_failure_ends_a_chain_for_those_who_wait(app: Umbel) -> None:
    @app.task
    def fail() -> None:
        raise ValueError("mid")

    reports: list[Any] = []
    message = message_of(app, fail, chain=[fail.si().set(task_id="last")])
    outcome = execute_message(app, message, report=reports.append)
    assert outcome.publish == ()
    assert [(report.task_id, report.state) for report in reports] == [("last", "FAILURE")]


def test_callback_that_cannot_be_run_fails_the_task(app: Umbel) -> None:
    @app.task
    def work() -> int:
        return 1

    chord = {"task": "celery.chord", "args": [], "kwargs": {}, "options": {}, "subtask_type": "chord"}
    outcome = run(app, work, link=chord)
    assert outcome.state == "FAILURE" and "chord" in outcome.error_repr


def test_error_callbacks_old_and_new(app: Umbel) -> None:
    seen: list[Any] = []

    @app.task
    def new_style(request: Any, exc: Any, traceback: Any) -> None:
        seen.append((request.id, repr(exc), "Traceback" in traceback))

    @app.task
    def old_style(task_id: str) -> None: ...

    @app.task
    def fail() -> None:
        raise ValueError("x")

    unknown = {"task": "far.away", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
    message = message_of(app, fail, link_error=[new_style.s(), old_style.s(), unknown, {"nonsense": 1}])
    outcome = execute_message(app, message)
    assert seen == [(message.id, "ValueError('x')", True)]
    assert [(sent.task, body(sent)[0]) for sent in outcome.publish] == [
        (old_style.name, [message.id]),
        ("far.away", [message.id]),
    ]


def test_tasks_sent_from_a_task_are_its_children(app: Umbel) -> None:
    @app.task
    def leaf() -> None: ...

    @app.task
    def parent() -> None:
        leaf.delay()
        leaf.apply_async(add_to_parent=False)
        app.send_task("far.away")
        app.send_many([leaf.s(), leaf.s()])

    @app.task(trail=False)
    def untracked() -> None:
        leaf.delay()

    message = message_of(app, parent)
    outcome = execute_message(app, message)
    sent = app.broker.peek("celery", 10)
    assert len(sent) == 5
    for child in sent:
        headers = decode_headers(child.headers)
        assert headers["parent_id"] == headers["root_id"] == message.id
    app.backend.store([outcome.result] if outcome.result else [])
    children = app.AsyncResult(message.id).children
    assert children is not None
    assert [child.id for child in children] == [sent[0].id, sent[2].id, sent[3].id, sent[4].id]
    app.broker.purge("celery")
    assert json.loads(run(app, untracked).result.payload)["children"] == []  # type: ignore[union-attr]
