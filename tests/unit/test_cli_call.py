"""``umbel call`` and ``umbel result``, as far as they need no worker: what they send, show and refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from commands import memory_app, run
from umbel import Umbel
from umbel.backends.base import Meta
from umbel.codecs import loads
from umbel.message import Message, decode_headers, now


@pytest.fixture
def app() -> Umbel:
    made = memory_app()

    @made.task(name="proj.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return made


def sent(app: Umbel, queue: str = "celery") -> Message:
    (message,) = app.broker.peek(queue)
    return message


def arguments_of(message: Message) -> tuple[Any, Any]:
    args, kwargs, _ = loads(message.body, message.content_type, message.content_encoding, {message.content_type})
    return args, kwargs


@pytest.mark.parametrize(
    ("line", "args", "kwargs"),
    [
        (["2", "3"], [2, 3], {}),
        (["two"], ["two"], {}),
        (["x=1"], ["x=1"], {}),
        (['{"a": [1.5, null]}', "true"], [{"a": [1.5, None]}, True], {}),
        (["--", "-2", "3"], [-2, 3], {}),
        (["1", "-a", "[2]"], [1, 2], {}),
        (["--args", "[1, 2]"], [1, 2], {}),
        (["-k", "x=1", "-k", "y=a=b"], [], {"x": 1, "y": "a=b"}),
        (["--kwargs", '{"x": 1, "y": 2}', "-k", "y=3"], [], {"x": 1, "y": 3}),
    ],
)
def test_arguments(app: Umbel, line: list[str], args: list[Any], kwargs: dict[str, Any]) -> None:
    result = run(app, "call", "proj.add", *line)
    assert result.exit_code == 0, result.output
    assert arguments_of(sent(app)) == (args, kwargs)
    assert result.stdout.strip() == sent(app).id


def test_options_travel_with_the_message(app: Umbel) -> None:
    line = [
        "--queue",
        "q",
        "--priority",
        "7",
        "--task-id",
        "t1",
        "--expires",
        "60",
        "--serializer",
        "msgpack",
        "--json",
    ]
    result = run(app, "call", "proj.add", "1", *line)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"id": "t1"}
    message = sent(app, "q")
    assert (message.id, message.priority, message.content_type) == ("t1", 7, "application/x-msgpack")
    assert message.expires is not None and 50 < message.expires - now() <= 60


@pytest.mark.parametrize("line", [["--countdown", "60"], ["--eta", "2999-01-01T00:00:00+00:00"]])
def test_delayed(app: Umbel, line: list[str]) -> None:
    assert run(app, "call", "proj.add", "1", *line).exit_code == 0
    assert app.broker.size("celery").delayed == 1


def test_unknown_task_is_sent_with_a_warning(app: Umbel) -> None:
    result = run(app, "call", "proj.ad", "1")
    assert result.exit_code == 0
    assert "Did you mean proj.add?" in result.stderr
    assert decode_headers(sent(app).headers)["task"] == "proj.ad"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["1", "2", "3"], "proj.add: "),
        (["-k", "z=1"], "proj.add: "),
        (["--kwargs", "[1]"], "is not a JSON object"),
        (["--args", "{"], "is not JSON"),
        (["-k", "novalue"], "is not KEY=VALUE"),
        (["1", "--eta", "tomorrow"], "is not an ISO 8601 moment"),
        (["1", "--expires", "soon"], "is not an ISO 8601 moment"),
        (["1", "--priority", "10"], "--priority"),
    ],
)
def test_wrong_usage_sends_nothing(app: Umbel, line: list[str], says: str) -> None:
    result = run(app, "call", "proj.add", *line)
    assert result.exit_code == 2
    assert says in result.output
    assert app.broker.peek("celery") == []


def test_waiting_needs_a_result_backend() -> None:
    app = memory_app(backend="disabled://")
    result = run(app, "call", "proj.add", "--wait")
    assert result.exit_code == 2 and "--wait needs a result backend" in result.output
    assert app.broker.peek("celery") == []


def test_no_result_in_time(app: Umbel) -> None:
    result = run(app, "call", "proj.add", "1", "--timeout", "0.05")
    assert result.exit_code == 124
    assert f"no result of task {sent(app).id} within 0.05 s" in result.stderr


# -- umbel result --


def store(app: Umbel, **meta: Any) -> None:
    app.backend.store([app.backend.encode(Meta(task_id="t1", **meta))])


def failure() -> dict[str, Any]:
    error = {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}
    return {"status": "FAILURE", "result": error, "traceback": "Traceback …\nValueError: no"}


def test_result_of_a_success(app: Umbel) -> None:
    store(app, status="SUCCESS", result={"a": [1, "ä"]}, date_done="2026-01-02T03:04:05+00:00")
    result = run(app, "result", "t1")
    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines == {
        "id": "t1",
        "state": "SUCCESS",
        "result": '{"a":[1,"ä"]}',
        "done": "2026-01-02 03:04:05.000+00:00",
    }
    document = json.loads(run(app, "result", "t1", "--json", "--wait").stdout)
    assert document["result"] == {"a": [1, "ä"]} and document["state"] == "SUCCESS" and document["children"] == []


def test_result_of_a_failure(app: Umbel) -> None:
    store(app, **failure())
    result = run(app, "result", "t1")
    assert result.exit_code == 1
    assert "ValueError: no" in result.stdout and "Traceback …" in result.stdout
    result = run(app, "result", "t1", "--traceback")
    assert (result.exit_code, result.stdout) == (1, "Traceback …\nValueError: no\n")
    result = run(app, "result", "t1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["result"] == {"error": "ValueError", "message": "no"}


def test_result_of_an_unknown_task(app: Umbel) -> None:
    result = run(app, "result", "nobody")
    assert result.exit_code == 0
    assert dict(line.split() for line in result.stdout.splitlines()) == {
        "id": "nobody",
        "state": "PENDING",
        "where": "unknown",
    }
    assert run(app, "result", "nobody", "--timeout", "0.05").exit_code == 124


def test_result_of_a_task_that_has_not_ended(app: Umbel) -> None:
    app.send_task("proj.add", (1,), task_id="t1")
    assert json.loads(run(app, "result", "t1", "--json").stdout)["where"] == "ready"
    store(app, status="RETRY", result=failure()["result"])
    assert "where" in run(app, "result", "t1").stdout
    store(app, status="SUCCESS", result=1)
    assert "where" not in run(app, "result", "t1").stdout
    assert "where" not in json.loads(run(app, "result", "t1", "--json").stdout)


def test_result_where_the_broker_cannot_tell() -> None:
    app = memory_app(broker="amqp://127.0.0.1:1//")
    result = run(app, "result", "nobody")
    assert result.exit_code == 0 and "where" not in result.stdout
    assert "it waits, or runs, or was never sent" in result.stderr


def test_result_without_a_backend() -> None:
    app = memory_app(backend="disabled://")
    result = run(app, "result", "t1")
    assert "there is no result backend" in str(result.exception)
