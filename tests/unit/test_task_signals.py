"""Signals of sending and running, in one process: when, from whom, with what; and that they can break nothing."""

from __future__ import annotations

import asyncio
import datetime
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from umbel import Ignore, Reject, Umbel, group, signals
from umbel.brokers.base import Action
from umbel.errors import InvalidTaskError
from umbel.execution import Outcome, execute_async, execute_message, read_call
from umbel.message import Message, decode_headers
from umbel.signals import Signal

RUN = ("task_prerun", "task_success", "task_retry", "task_failure", "task_internal_error", "task_postrun")


@pytest.fixture
def app() -> Iterator[Umbel]:
    with Umbel("sig", broker=f"memory://{uuid.uuid4()}", backend=f"memory://{uuid.uuid4()}") as made:
        yield made


@pytest.fixture
def listen() -> Iterator[Callable[..., list[tuple[str, dict[str, Any]]]]]:
    """``listen(*names)`` connects to these signals; the list that it returns grows with each."""
    connected: list[tuple[Signal, Any]] = []

    def connect(*names: str) -> list[tuple[str, dict[str, Any]]]:
        heard: list[tuple[str, dict[str, Any]]] = []
        for name in names:

            def receive(signal: Signal, name: str = name, **named: Any) -> None:
                heard.append((name, named))

            signal = getattr(signals, name)
            connected.append((signal, signal.connect(receive)))
        return heard

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


def only_message(app: Umbel) -> Message:
    (message,) = app.broker.peek("celery", 2)
    app.broker.purge("celery")
    return message


def run(app: Umbel, task: Any, *args: Any, **options: Any) -> Outcome:
    task.apply_async(args, **options)
    return execute_message(app, only_message(app), hostname="w1@test")


# -- running ---------------------------------------------------------------------------------------


def test_signals_of_a_success_in_order(app: Umbel, listen: Any) -> None:
    heard = listen(*RUN)
    order: list[str] = []

    class Noisy(app.Task):
        def before_start(self, *args: Any) -> None:
            order.append(f"before_start after {len(heard)}")

        def on_success(self, *args: Any) -> None:
            order.append(f"on_success after {len(heard)}")

    @app.task(base=Noisy)
    def add(x: int, y: int) -> int:
        return x + y

    run(app, add, 2, 3, task_id="t1")
    assert [name for name, _ in heard] == ["task_prerun", "task_success", "task_postrun"]
    assert order == ["before_start after 1", "on_success after 1"]
    assert heard[0][1] == {"sender": add, "task_id": "t1", "task": add, "args": [2, 3], "kwargs": {}}
    assert heard[1][1]["sender"] is add and heard[1][1]["result"] == 5 and 0 <= heard[1][1]["runtime"] < 1
    call = {"sender": add, "task_id": "t1", "task": add, "args": [2, 3], "kwargs": {}}
    assert heard[2][1] == {**call, "retval": 5, "state": "SUCCESS"}


def test_signals_of_a_failure(app: Umbel, listen: Any) -> None:
    heard = listen(*RUN)

    @app.task
    def fail() -> None:
        raise ValueError("no luck")

    run(app, fail, task_id="t2")
    assert [name for name, _ in heard] == ["task_prerun", "task_failure", "task_postrun"]
    failure, last = heard[1][1], heard[2][1]
    assert (failure["sender"], failure["task_id"], failure["args"], failure["kwargs"]) == (fail, "t2", [], {})
    assert isinstance(failure["exception"], ValueError)
    assert failure["einfo"].exception is failure["exception"] and "no luck" in str(failure["einfo"])
    assert (last["state"], last["retval"]) == ("FAILURE", failure["exception"])


def test_the_live_traceback_is_there_while_the_receiver_runs(app: Umbel) -> None:
    frames: list[str] = []

    def receive(traceback: Any, **kwargs: Any) -> None:
        while traceback is not None:
            frames.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next

    @app.task
    def break_down() -> None:
        raise ValueError("no luck")

    signals.task_failure.connect(receive)
    try:
        run(app, break_down)
    finally:
        signals.task_failure.disconnect(receive)
    assert frames[-1] == "break_down"


def test_signals_of_a_retry(app: Umbel, listen: Any) -> None:
    heard = listen(*RUN)

    @app.task(bind=True, max_retries=1, default_retry_delay=0)
    def again(self: Any) -> None:
        raise self.retry(exc=ValueError("not yet"))

    run(app, again, task_id="t3")
    assert [name for name, _ in heard] == ["task_prerun", "task_retry", "task_postrun"]
    retry = heard[1][1]
    assert retry["sender"] is again and retry["request"].id == "t3" and "not yet" in str(retry["reason"])
    assert isinstance(retry["einfo"].exception, ValueError)
    assert heard[2][1]["state"] == "RETRY"


@pytest.mark.parametrize(("error", "state"), [(Ignore(), "IGNORED"), (Reject("bad"), "REJECTED")])
def test_only_postrun_tells_of_what_was_ignored_or_rejected(
    app: Umbel, listen: Any, error: Exception, state: str
) -> None:
    heard = listen(*RUN)

    @app.task
    def refuse() -> None:
        raise error

    run(app, refuse)
    assert [name for name, _ in heard] == ["task_prerun", "task_postrun"]
    assert heard[1][1]["state"] == state and heard[1][1]["retval"] is error


def test_an_outcome_that_cannot_be_made_is_an_internal_error(app: Umbel, listen: Any) -> None:
    heard = listen(*RUN)

    class Leaving(app.Task):
        def on_failure(self, *args: Any) -> None:
            raise SystemExit(3)

    @app.task(base=Leaving)
    def fail() -> None:
        raise ValueError("no luck")

    assert run(app, fail, task_id="t8").state == "FAILURE"
    assert [name for name, _ in heard] == ["task_prerun", "task_internal_error", "task_postrun"]
    internal = heard[1][1]
    assert (internal["sender"], internal["task_id"], internal["request"].id) == (fail, "t8", "t8")
    assert "sys.exit(3)" in str(internal["exception"]) and internal["traceback"] is not None
    assert "on_failure" in str(internal["einfo"])


def test_an_unserializable_return_value_is_a_failure(app: Umbel, listen: Any) -> None:
    heard = listen(*RUN)

    @app.task
    def strange() -> object:
        return object()

    assert run(app, strange).state == "FAILURE"
    assert [name for name, _ in heard] == ["task_prerun", "task_failure", "task_postrun"]


def test_async_tasks_send_the_same_signals(app: Umbel, listen: Any) -> None:
    heard = listen(*RUN)

    @app.task
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x

    run(app, later, 1)
    later.delay(2)
    outcome = asyncio.run(execute_async(app, *read_call(app, only_message(app))))
    assert outcome.value == 2
    assert [name for name, _ in heard] == 2 * ["task_prerun", "task_success", "task_postrun"]
    assert [named["result"] for name, named in heard if name == "task_success"] == [1, 2]


def test_receivers_see_the_request_of_the_call(app: Umbel) -> None:
    ids: list[str] = []

    @app.task
    def work() -> None: ...

    def receive(task: Any, **kwargs: Any) -> None:
        ids.append(task.request.id)

    for signal in (signals.task_prerun, signals.task_postrun):
        signal.connect(receive)
    try:
        run(app, work, task_id="t9")
    finally:
        for signal in (signals.task_prerun, signals.task_postrun):
            assert signal.disconnect(receive)
    assert ids == ["t9", "t9"]


@pytest.mark.parametrize("name", ["task_prerun", "task_success", "task_postrun", "task_failure", "task_retry"])
@pytest.mark.parametrize("error", [RuntimeError("receiver"), SystemExit(1)])
def test_a_failing_receiver_changes_no_outcome(
    app: Umbel, name: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(bind=True)
    def work(self: Any, how: str) -> str:
        if how == "retry":
            raise self.retry(countdown=0)
        if how == "fail":
            raise ValueError(how)
        return how

    def receive(**kwargs: Any) -> None:
        raise error

    signal: Signal = getattr(signals, name)
    signal.connect(receive)
    try:
        with caplog.at_level(logging.CRITICAL):
            outcomes = [run(app, work, how) for how in ("well", "fail", "retry")]
    finally:
        signal.disconnect(receive)
    assert [outcome.state for outcome in outcomes] == ["SUCCESS", "FAILURE", "RETRY"]
    assert [outcome.action for outcome in outcomes] == [Action.ACK] * 3
    assert len(outcomes[2].publish) == 1


def test_eager_calls_send_the_signals_of_running_in_the_callers_process(app: Umbel, listen: Any) -> None:
    heard = listen(*RUN, "before_task_publish")

    @app.task
    def add(x: int) -> int:
        return x

    assert add.apply((1,)).get() == 1
    assert [name for name, _ in heard] == ["task_prerun", "task_success", "task_postrun"]


def test_what_cannot_be_run_is_told(app: Umbel, listen: Any) -> None:
    heard = listen("task_rejected", "task_revoked", *RUN)

    @app.task
    def work() -> None: ...

    work.delay()
    message = only_message(app)
    broken = Message(id=message.id, task=message.task, queue="celery", headers=message.headers, body=b"{")
    assert execute_message(app, broken).action is Action.DEAD_LETTER
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    work.apply_async(expires=past, task_id="t5")
    assert execute_message(app, only_message(app)).state == "REVOKED"
    assert [name for name, _ in heard] == ["task_rejected", "task_revoked"]
    assert heard[0][1]["message"] is broken and isinstance(heard[0][1]["exc"], Exception)
    revoked = heard[1][1]
    assert (revoked["sender"], revoked["request"].id) == (work, "t5")
    assert (revoked["expired"], revoked["terminated"], revoked["signum"]) == (True, False, None)


# -- publishing ------------------------------------------------------------------------------------


def test_publishing_is_announced_before_and_after(app: Umbel, listen: Any) -> None:
    heard = listen("before_task_publish", "after_task_publish", "task_sent")

    @app.task
    def add(x: int, y: int = 0) -> int:
        return x + y

    result = add.apply_async((1,), {"y": 2}, headers={"tenant": "acme"}, priority=3)
    assert [name for name, _ in heard] == ["before_task_publish", "after_task_publish", "task_sent"]
    before, after, sent = (named for _, named in heard)
    assert before["sender"] == add.name and before["headers"]["id"] == result.id
    assert before["headers"]["tenant"] == "acme" and before["headers"]["task"] == add.name
    assert before["body"][:2] == ([1], {"y": 2}) and set(before["body"][2]) == {
        "callbacks",
        "errbacks",
        "chain",
        "chord",
    }
    assert before["properties"]["priority"] == 3 and before["properties"]["correlation_id"] == result.id
    assert before["routing_key"] == "celery" and [queue.name for queue in before["declare"]] == ["celery"]
    assert after["headers"]["id"] == result.id and after["body"][1] == {"y": 2} and after["routing_key"] == "celery"
    assert (sent["task_id"], sent["task"], list(sent["args"]), sent["kwargs"]) == (result.id, add.name, [1], {"y": 2})


def test_what_a_receiver_changes_takes_effect(app: Umbel) -> None:
    @app.task(bind=True)
    def add(self: Any, x: int, y: int = 0) -> Any:
        return x + y, self.request.headers

    due = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)).isoformat()

    @signals.before_task_publish.connect
    def change(headers: dict[str, Any], properties: dict[str, Any], body: Any, **kwargs: Any) -> None:
        headers["tenant"] = "acme"
        headers["shadow"] = "shown"
        headers["expires"] = due
        properties["priority"] = 7
        properties["reply_to"] = "there"
        body[0][0] = 10
        body[1]["y"] = 5

    given = {"y": 1}
    try:
        result = add.apply_async((1,), given, task_id="t6")
    finally:
        signals.before_task_publish.disconnect(change)
    message = only_message(app)
    headers = decode_headers(message.headers)
    assert (headers["tenant"], headers["shadow"]) == ("acme", "shown")
    assert (message.priority, message.reply_to, message.id, result.id) == (7, "there", "t6", "t6")
    assert message.expires == datetime.datetime.fromisoformat(due).timestamp()
    assert execute_message(app, message).value == (15, {"tenant": "acme"})
    assert given == {"y": 1}


def test_the_id_may_be_changed_and_the_result_follows(app: Umbel) -> None:
    @signals.before_task_publish.connect
    def rename(headers: dict[str, Any], **kwargs: Any) -> None:
        headers["id"] = "mine"

    @app.task
    def work() -> None: ...

    try:
        assert work.delay().id == "mine"
    finally:
        signals.before_task_publish.disconnect(rename)
    assert only_message(app).id == "mine"


def test_an_impossible_header_fails_the_call_and_nothing_is_sent(app: Umbel) -> None:
    @signals.before_task_publish.connect
    def spoil(headers: dict[str, Any], **kwargs: Any) -> None:
        headers["retries"] = "many"

    @app.task
    def work() -> None: ...

    try:
        with pytest.raises(InvalidTaskError, match=r"before_task_publish.*retries"):
            work.delay()
    finally:
        signals.before_task_publish.disconnect(spoil)
    assert app.broker.size("celery").ready == 0


def test_nothing_is_announced_as_sent_that_was_not(app: Umbel, listen: Any) -> None:
    heard = listen("before_task_publish", "after_task_publish")

    @app.task
    def work(value: object) -> None: ...

    with pytest.raises(Exception, match="object"):
        work.delay(object())
    assert [name for name, _ in heard] == ["before_task_publish"]


def test_groups_retries_and_callbacks_are_announced_one_by_one(app: Umbel, listen: Any) -> None:
    @app.task(bind=True, max_retries=1)
    def flaky(self: Any, x: int) -> int:
        if self.request.retries == 0 and x == 0:
            raise self.retry(countdown=0)
        return x

    heard = listen("before_task_publish", "after_task_publish")
    group(flaky.s(1), flaky.s(2)).apply_async()
    assert [name for name, _ in heard] == 2 * ["before_task_publish"] + 2 * ["after_task_publish"]
    app.broker.purge("celery")
    heard.clear()
    flaky.apply_async((0,), task_id="t7")
    execute_message(app, only_message(app))
    assert [(name, named["headers"]["id"], named["headers"]["retries"]) for name, named in heard] == [
        ("before_task_publish", "t7", 0),
        ("after_task_publish", "t7", 0),
        ("before_task_publish", "t7", 1),
    ]


def test_a_failing_receiver_does_not_keep_a_message_from_being_sent(app: Umbel) -> None:
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("receiver")

    @app.task
    def work() -> int:
        return 1

    for signal in (signals.before_task_publish, signals.after_task_publish):
        signal.connect(fail)
    try:
        work.delay()
    finally:
        for signal in (signals.before_task_publish, signals.after_task_publish):
            signal.disconnect(fail)
    assert execute_message(app, only_message(app)).value == 1


def test_an_error_in_import_modules_is_raised(app: Umbel, listen: Any) -> None:
    heard = listen("import_modules")
    app.import_task_modules()
    assert heard == [("import_modules", {"sender": app})]

    def fail(**kwargs: Any) -> None:
        raise RuntimeError("no modules")

    signals.import_modules.connect(fail, sender=app)
    try:
        with pytest.raises(RuntimeError, match="no modules"):
            app.import_task_modules()
    finally:
        signals.import_modules.disconnect(fail, sender=app)
