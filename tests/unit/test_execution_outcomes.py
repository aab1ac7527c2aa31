"""One delivery in, one outcome out: success, failure, retry, rejection, and whatever else a task may do."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from umbel import Ignore, Reject, Umbel
from umbel.backends.base import Result
from umbel.brokers.base import Action
from umbel.codecs import dumps
from umbel.execution import Outcome, close_loop, execute_async, execute_message, read_call
from umbel.message import Message, decode_headers
from umbel.task import Task


@pytest.fixture
def app() -> Iterator[Umbel]:
    with Umbel("exec", broker=f"memory://{uuid.uuid4()}", backend=f"memory://{uuid.uuid4()}") as made:
        yield made


def message_of(app: Umbel, task: Any, *args: Any, **options: Any) -> Message:
    """The message that a call sends."""
    task.apply_async(args, **options)
    (message,) = app.broker.peek("celery", 2)
    app.broker.purge("celery")
    return message


def run(app: Umbel, task: Any, *args: Any, **options: Any) -> Outcome:
    return execute_message(app, message_of(app, task, *args, **options), hostname="w1@test")


def stored(outcome: Outcome) -> dict[str, Any]:
    assert outcome.result is not None
    return json.loads(outcome.result.payload)


def test_success_is_acknowledged_with_its_encoded_result(app: Umbel) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    outcome = run(app, add, 2, 3)
    assert (outcome.state, outcome.value, outcome.action) == ("SUCCESS", 5, Action.ACK)
    document = stored(outcome)
    assert list(document) == ["status", "result", "traceback", "children", "date_done", "task_id"]
    assert document["result"] == 5 and document["children"] == [] and document["date_done"].endswith("+00:00")


def test_request_tells_about_the_message(app: Umbel) -> None:
    seen: dict[str, Any] = {}

    @app.task(bind=True)
    def look(self: Task[..., Any], x: int) -> None:
        request = self.request
        seen.update(
            id=request.id, args=list(request.args), kwargs=request.kwargs, headers=request.headers,
            hostname=request.hostname, info=request.delivery_info,
            retries=request.retries, eager=request.is_eager, direct=request.called_directly,
            limits=request.timelimit, root=request.root_id, task=app.current_task,
        )  # fmt: skip

    message = message_of(app, look, 7, headers={"tenant": "acme"}, time_limit=5, priority=4)
    execute_message(app, message, hostname="w1@test", redelivered=True, deliveries=2)
    assert seen["id"] == seen["root"] == message.id
    assert seen["args"] == [7] and seen["kwargs"] == {} and seen["headers"] == {"tenant": "acme"}
    assert seen["hostname"] == "w1@test" and seen["limits"] == (5, None)
    assert seen["info"] == {"exchange": "", "routing_key": "celery", "priority": 4, "redelivered": True}
    assert (seen["retries"], seen["eager"], seen["direct"]) == (0, False, False)
    assert seen["task"] is look and app.current_task is None


def test_failure_keeps_text_and_no_frames(app: Umbel) -> None:
    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    @app.task
    def fail() -> None:
        big = Big()
        raise ValueError("broken", big is None)

    outcome = run(app, fail)
    assert (outcome.state, outcome.action, outcome.error_repr) == ("FAILURE", Action.ACK, "ValueError('broken', False)")
    assert outcome.traceback is not None
    assert outcome.traceback.startswith("Traceback") and "in fail" in outcome.traceback
    assert "execution.py" not in outcome.traceback
    assert stored(outcome)["result"] == {
        "exc_type": "ValueError", "exc_message": ["broken", False], "exc_module": "builtins",
    }  # fmt: skip
    gc.collect()
    assert Big.alive == 0


@pytest.mark.parametrize("how", [lambda: sys.exit(3), lambda: (_ for _ in ()).throw(KeyboardInterrupt())])
def test_a_task_cannot_end_its_executor(app: Umbel, how: Any) -> None:
    @app.task
    def leave() -> None:
        how()

    outcome = run(app, leave)
    assert (outcome.state, outcome.action) == ("FAILURE", Action.ACK)
    plain = stored(outcome)["result"]
    assert plain["exc_type"] == "TaskError" and "cannot end its worker" in plain["exc_message"][0]


def test_memory_error_and_endless_recursion_are_failures(app: Umbel) -> None:
    @app.task
    def much() -> None:
        raise MemoryError

    @app.task
    def deep() -> None:
        deep.run()

    assert stored(run(app, much))["result"]["exc_type"] == "MemoryError"
    assert stored(run(app, deep))["result"]["exc_type"] == "RecursionError"


def test_result_that_cannot_be_serialized_fails_the_task(app: Umbel) -> None:
    @app.task
    def strange() -> Any:
        return {"lock": threading.Lock()}

    outcome = run(app, strange)
    assert outcome.state == "FAILURE"
    plain = stored(outcome)["result"]
    assert (plain["exc_type"], plain["exc_module"]) == ("EncodeError", "kombu.exceptions")
    assert "lock" in plain["exc_message"][0]


def test_wrong_arguments_in_the_message_fail_the_task(app: Umbel) -> None:
    @app.task(typing=False)
    def one(x: int) -> int:
        return x

    outcome = run(app, one, 1, 2, 3)
    assert outcome.state == "FAILURE"
    assert stored(outcome)["result"]["exc_type"] == "TypeError"


def test_ignore_reject_and_requeue(app: Umbel) -> None:
    @app.task(bind=True)
    def steer(self: Task[..., Any], what: str) -> None:
        if what == "ignore":
            self.update_state(state="MINE", meta={"x": 1})
            raise Ignore
        raise Reject("no use", requeue=what == "requeue")

    message = message_of(app, steer, "ignore")
    outcome = execute_message(app, message)
    assert (outcome.state, outcome.action, outcome.result) == ("IGNORED", Action.ACK, None)
    assert app.AsyncResult(message.id).state == "MINE"
    rejected = run(app, steer, "reject")
    assert (rejected.state, rejected.action, rejected.reason) == ("REJECTED", Action.DEAD_LETTER, "no use")
    assert run(app, steer, "requeue").action is Action.REQUEUE


def test_ignored_results_are_not_stored_but_errors_may_be(app: Umbel) -> None:
    @app.task(ignore_result=True)
    def quiet(fail: bool) -> int:
        return 1 // (not fail)

    @app.task(ignore_result=True, store_errors_even_if_ignored=True)
    def loud(fail: bool) -> int:
        return 1 // (not fail)

    assert run(app, quiet, False).result is None
    assert run(app, quiet, True).result is None
    assert run(app, loud, False).result is None
    assert run(app, loud, True).result is not None
    assert run(app, quiet, False, ignore_result=False).result is not None
    assert run(app, loud, False, ignore_result=True).result is None


def test_without_backend_nothing_is_stored() -> None:
    app = Umbel("nores", broker=f"memory://{uuid.uuid4()}", set_as_current=False)

    @app.task
    def one() -> int:
        return 1

    assert run(app, one).result is None


def test_failures_may_go_to_the_dead_letters(app: Umbel) -> None:
    @app.task(acks_late=True, acks_on_failure=False)
    def fail() -> None:
        raise ValueError("x")

    outcome = run(app, fail)
    assert (outcome.action, outcome.reason) == (Action.DEAD_LETTER, "ValueError('x')")
    assert outcome.result is not None


def test_expected_errors_are_marked(app: Umbel) -> None:
    @app.task(throws=KeyError)
    def fail(which: str) -> None:
        raise {"key": KeyError, "value": ValueError}[which]

    assert run(app, fail, "key").expected
    assert not run(app, fail, "value").expected


class Recorder(Task[..., Any]):
    calls: list[Any]

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.calls = [("before", list(args))]

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self.calls.append(("success", retval))

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.calls.append(("failure", repr(exc), "ValueError" in str(einfo)))
        raise RuntimeError("handlers may fail")

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.calls.append(("retry", repr(exc)))

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.calls.append(("after", status))


def test_handlers_are_called_in_order(app: Umbel) -> None:
    @app.task(base=Recorder, bind=True)
    def work(self: Recorder, what: str) -> str:
        if what == "fail":
            raise ValueError(what)
        if what == "retry":
            raise self.retry(exc=KeyError("again"))
        return what

    run(app, work, "fine")
    assert work.calls == [("before", ["fine"]), ("success", "fine"), ("after", "SUCCESS")]  # type: ignore[attr-defined]
    outcome = run(app, work, "fail")
    assert outcome.state == "FAILURE"
    assert work.calls[1:] == [("failure", "ValueError('fail')", True), ("after", "FAILURE")]  # type: ignore[attr-defined]
    run(app, work, "retry")
    assert work.calls[1:] == [("retry", "KeyError('again')"), ("after", "RETRY")]  # type: ignore[attr-defined]


def test_started_is_reported_where_tracked(app: Umbel) -> None:
    @app.task(track_started=True)
    def work() -> None: ...

    reports: list[Result] = []
    execute_message(app, message_of(app, work), hostname="w1@test", report=reports.append)
    (report,) = reports
    assert report.state == "STARTED"
    assert json.loads(report.payload)["result"] == {"pid": os.getpid(), "hostname": "w1@test"}


def test_progress_is_reported_and_plain_calls_do_nothing(app: Umbel) -> None:
    @app.task(bind=True)
    def work(self: Task[..., Any]) -> int:
        self.progress(1, 4, file="a.txt")
        return 1

    reports: list[Result] = []
    execute_message(app, message_of(app, work), report=reports.append)
    assert json.loads(reports[0].payload)["result"] == {"current": 1, "total": 4, "percent": 25.0, "file": "a.txt"}
    assert reports[0].state == "PROGRESS"
    assert work() == 1


def test_extended_results_tell_name_arguments_worker_and_queue(app: Umbel) -> None:
    app.conf.result_extended = True

    @app.task
    def work(x: int) -> int:
        return x

    document = stored(run(app, work, 1))
    assert (document["name"], document["args"], document["kwargs"]) == (work.name, [1], {})
    assert (document["worker"], document["queue"], document["retries"]) == ("w1@test", "celery", 0)


def test_arguments_that_results_cannot_hold_are_shown_as_text(app: Umbel) -> None:
    app.conf.update(result_extended=True, accept_content=["pickle", "json"], result_accept_content=["json"])

    @app.task(serializer="pickle")
    def work(values: set[int]) -> int:
        return len(values)

    document = stored(run(app, work, {1, 2}))
    assert document["result"] == 2 and "{1, 2}" in document["args"]


def test_a_failure_whose_arguments_cannot_be_told_is_stored_all_the_same(app: Umbel) -> None:
    class Hostile(Exception):
        @property
        def args(self) -> Any:  # type: ignore[override]
            raise RuntimeError("no args")

    @app.task
    def fail() -> None:
        raise Hostile

    outcome = run(app, fail)
    assert (outcome.state, outcome.action) == ("FAILURE", Action.ACK)
    document = stored(outcome)
    assert document["result"]["exc_type"].endswith("Hostile") and "RuntimeError" in document["result"]["exc_message"][0]


# -- messages that are not as they should be -------------------------------------------------------


def replaced(message: Message, **fields: Any) -> Message:
    return msgspec.structs.replace(message, **fields)


def test_content_that_is_not_accepted_is_never_decoded(app: Umbel) -> None:
    @app.task
    def work(x: Any) -> None: ...

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, ("/nonexistent/umbel-was-here",)

    encoded = dumps(((Bomb(),), {}, {}), "pickle")
    message = replaced(message_of(app, work, 1), body=encoded.body, content_type=encoded.content_type)
    outcome = execute_message(app, message)
    assert (outcome.state, outcome.action) == ("FAILURE", Action.DEAD_LETTER)
    assert outcome.reason.startswith("ContentDisallowed")
    assert stored(outcome)["result"]["exc_type"] == "ContentDisallowed"


@pytest.mark.parametrize(
    "body",
    [b"{not json", b"[]", b"[1,2]", b'"text"', b"[[1],{},{},{}]", b"[1,{},{}]", b"[[],[1],{}]", b"\xff", b""],
)
def test_undecodable_bodies_go_to_the_dead_letters(app: Umbel, body: bytes) -> None:
    @app.task
    def work(x: Any) -> None: ...

    outcome = execute_message(app, replaced(message_of(app, work, 1), body=body))
    assert (outcome.state, outcome.action) == ("FAILURE", Action.DEAD_LETTER)
    assert outcome.reason and outcome.result is not None


@pytest.mark.parametrize("embed", [b"null", b"{}"])
def test_embed_and_arguments_may_be_missing(app: Umbel, embed: bytes) -> None:
    @app.task
    def work() -> int:
        return 9

    outcome = execute_message(app, replaced(message_of(app, work), body=b"[null,null," + embed + b"]"))
    assert outcome.value == 9


def test_wrong_headers_go_to_the_dead_letters(app: Umbel) -> None:
    @app.task
    def work() -> None: ...

    message = message_of(app, work)
    headers = {**decode_headers(message.headers), "retries": "many"}
    outcome = execute_message(app, replaced(message, headers=json.dumps(headers).encode()))
    assert (outcome.state, outcome.action) == ("FAILURE", Action.DEAD_LETTER)


def test_unknown_task_is_parked(app: Umbel) -> None:
    app.send_task("nobody.knows")
    (message,) = app.broker.peek("celery")
    outcome = execute_message(app, message)
    assert outcome.action is Action.PARK and "nobody.knows" in outcome.reason


def test_protocol_1_runs(app: Umbel) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    body = {"task": add.name, "id": "v1", "args": [1], "kwargs": {"y": 2}, "retries": 1, "eta": None, "utc": True}
    message = Message(id="", task="", queue="celery", headers=b"{}", body=json.dumps(body).encode())
    outcome = execute_message(app, message)
    assert (outcome.value, stored(outcome)["task_id"]) == (3, "v1")
    hybrid = replaced(message_of(app, add, 1, 1), body=json.dumps(body).encode())
    assert execute_message(app, hybrid).value == 3


@pytest.mark.parametrize("body", [b"[]", b'{"task": "x"}', b'{"id": "x"}', b'{"task": 1, "id": "x"}', b"nothing"])
def test_protocol_1_without_task_and_id_is_refused(app: Umbel, body: bytes) -> None:
    outcome = execute_message(app, Message(id="", task="", queue="celery", headers=b"{}", body=body))
    assert outcome.action is Action.DEAD_LETTER


def test_missing_numbers_in_headers_are_zero(app: Umbel) -> None:
    @app.task(bind=True)
    def look(self: Task[..., Any]) -> Any:
        return self.request.retries, self.request.timelimit

    headers = json.dumps({"task": look.name, "id": "x", "retries": None, "timelimit": None}).encode()
    message = Message(id="x", task=look.name, queue="celery", headers=headers, body=b"[[],{},{}]")
    assert execute_message(app, message).value == (0, (None, None))


# -- async tasks -----------------------------------------------------------------------------------


def test_async_tasks_share_one_loop_per_thread(app: Umbel) -> None:
    loops: list[Any] = []

    @app.task(bind=True)
    async def work(self: Task[..., Any], x: int) -> int:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        assert self.request.args == [x] and app.current_task is work
        return x * 2

    try:
        assert [run(app, work, n).value for n in (1, 2)] == [2, 4]
        assert loops[0] is loops[1]
    finally:
        close_loop()
    assert loops[0].is_closed()


def test_coroutines_are_run_by_the_callers_runner(app: Umbel) -> None:
    @app.task
    async def work() -> int:
        return 5

    with asyncio.Runner() as runner:
        assert execute_message(app, message_of(app, work), run_coroutine=runner.run).value == 5


def test_execute_async_keeps_requests_apart(app: Umbel) -> None:
    @app.task(bind=True)
    async def work(self: Task[..., Any], n: int) -> Any:
        await asyncio.sleep(0.01 * (3 - n))
        if n == 2:
            raise ValueError(n)
        return self.request.id

    messages = [message_of(app, work, n) for n in range(3)]

    async def all_at_once() -> list[Outcome]:
        return await asyncio.gather(*(execute_async(app, *read_call(app, message)) for message in messages))

    outcomes = asyncio.run(all_at_once())
    assert [outcome.state for outcome in outcomes] == ["SUCCESS", "SUCCESS", "FAILURE"]
    assert [outcome.value for outcome in outcomes[:2]] == [messages[0].id, messages[1].id]


def test_cancelling_the_lane_is_not_a_failure_but_a_tasks_own_is(app: Umbel) -> None:
    @app.task
    async def wait(own: bool) -> None:
        if own:
            raise asyncio.CancelledError
        await asyncio.sleep(60)

    async def cancel() -> str:
        job = asyncio.create_task(execute_async(app, *read_call(app, message_of(app, wait, False))))
        await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        return (await execute_async(app, *read_call(app, message_of(app, wait, True)))).state

    assert asyncio.run(cancel()) == "FAILURE"
