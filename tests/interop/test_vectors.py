"""Every message that a real Celery wrote is read as the golden vectors say, and what we write a real Celery reads."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interop.rig import ROOT, celery_python
from umbel import Umbel
from umbel.brokers.envelope import decode_envelope, encode_envelope
from umbel.codecs import dumps
from umbel.errors import DecodeError, InvalidTaskError, NotRegistered, UmbelError
from umbel.execution import execute_message, read_call
from umbel.message import Message, decode_headers, read_message

CAPTURE = Path(os.environ.get("UMBEL_VECTORS") or ROOT.parent / "shared" / "wire" / "vectors")
NAMES = ["redis_messages", "redis_messages_v1", "redis_messages_chord_unlock", "rabbit_messages", "rabbit_messages_v1"]

needs_capture = pytest.mark.skipif(
    not CAPTURE.is_dir(), reason="no golden vectors: set UMBEL_VECTORS to their directory"
)


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    made = Umbel(
        "vectors",
        broker="memory://interop-vectors",
        backend="memory://interop-vectors",
        accept_content=["json", "pickle", "yaml", "msgpack"],
        set_as_current=False,
    )
    yield made
    made.close()


def know(app: Any, name: str) -> None:
    """Register a task of this name that takes anything and adds its positional numbers."""
    if name not in app.tasks:

        def run(*args: Any, **kwargs: Any) -> Any:
            return sum(value for value in args if isinstance(value, int))

        app.task(name=name)(run)


def captured() -> list[tuple[str, dict[str, Any]]]:
    if not CAPTURE.is_dir():
        return []
    found = []
    for file in NAMES:
        for scenario, data in json.loads((CAPTURE / f"{file}.json").read_text())["scenarios"].items():
            found += [(f"{file}-{scenario}-{at}", message) for at, message in enumerate(data["messages"])]
    return found


def message_of(shown: dict[str, Any]) -> tuple[Message, dict[str, Any], Any]:
    """The message as a driver reads it, Celery's headers, and the body as it was shown when captured."""
    if "envelope" in shown:
        envelope = shown["envelope"]
        queue = shown["key"].partition("\x06")[0]
        return decode_envelope(json.dumps(envelope).encode(), queue), envelope["headers"], shown.get("body_decoded")
    properties = shown["properties"]
    headers = properties.get("application_headers") or {}
    message = read_message(
        json.dumps(headers, default=str).encode(),
        base64.b64decode(shown["body_b64"]),
        queue=shown.get("routing_key") or "celery",
        content_type=properties["content_type"],
        content_encoding=properties["content_encoding"],
        priority=properties.get("priority") or 0,
        reply_to=properties.get("reply_to") or "",
        correlation_id=properties.get("correlation_id") or "",
    )
    return message, headers, shown.get("body_decoded")


def as_json(value: Any) -> Any:
    return json.loads(dumps(value, "json").body)


@needs_capture
@pytest.mark.parametrize("shown", [pytest.param(shown, id=name) for name, shown in captured()])
def test_a_captured_message_is_read_as_the_vectors_say(app: Any, shown: dict[str, Any]) -> None:
    message, headers, decoded = message_of(shown)
    old = not headers.get("task")
    assert message.task == headers.get("task", "")
    if old and decoded is not None:
        know(app, decoded["task"])
    elif not old:
        know(app, message.task)
        assert message.id == headers["id"] and decode_headers(message.headers) == headers
    try:
        task, request, args, kwargs = read_call(app, message)
    except NotRegistered as error:
        know(app, error.args[0])
        task, request, args, kwargs = read_call(app, message)
    assert request.id == (headers.get("id") or message.correlation_id)
    if decoded is None:
        return
    if old:
        assert (task.name, as_json(args), as_json(kwargs)) == (decoded["task"], decoded["args"], decoded["kwargs"])
        assert request.retries == decoded["retries"] and request.group == decoded["group"]
        assert (request.callbacks, request.errbacks) == (decoded["callbacks"], decoded["errbacks"])
        assert request.chord == decoded["chord"]
        return
    assert [as_json(args), as_json(kwargs)] == decoded[:2]
    for name, value in decoded[2].items():
        assert as_json(getattr(request, name)) == value, name
    assert (request.retries, request.group, request.root_id) == (
        headers["retries"],
        headers["group"],
        headers["root_id"],
    )


# -- messages made by hand -------------------------------------------------------------------------


def minimal(part: str) -> dict[str, Any]:
    path = CAPTURE / "minimal_messages.json"
    return json.loads(path.read_text())[part] if path.is_file() else {}


MINIMAL = minimal("messages")
BETTER_THAN_CELERY = {"no_delivery_info", "no_delivery_tag"}
"""Celery's worker falls into an endless reconnect over these; nothing that is needed is missing."""


@needs_capture
@pytest.mark.parametrize("name", MINIMAL)
def test_a_hand_made_message_ends_as_with_a_real_worker_or_better(app: Any, name: str) -> None:
    """Where Celery stored a result so do we; where it crashed, looped or dropped, the message is set aside."""
    vector = MINIMAL[name]
    know(app, "wire.add")
    expected = (vector.get("result") or {}).get("status")
    try:
        outcome = execute_message(app, decode_envelope(json.dumps(vector["message"]).encode(), "celery"))
    except InvalidTaskError:
        assert expected is None
        return
    if expected == "SUCCESS" or name in BETTER_THAN_CELERY or name == "ignore_result_true":
        assert (outcome.state, outcome.value) == ("SUCCESS", 5), outcome
        assert (outcome.result is None) == (name == "ignore_result_true")
    elif name == "kwargs_null":
        assert outcome.state == "SUCCESS"  # Celery never answers
    else:
        assert outcome.state == "FAILURE" and outcome.action.value == "dead-letter" and outcome.reason


@needs_capture
@pytest.mark.parametrize("name", minimal("results"))
def test_a_hand_made_result_is_read_as_a_real_client_reads_it(app: Any, name: str) -> None:
    import redis

    import services

    vector = minimal("results")[name]
    task_id = vector["stored"].get("task_id", name)
    with services.isolated("redis") as url:
        reader = Umbel("reader", broker="memory://reader", backend=url, set_as_current=False)
        with redis.Redis.from_url(url) as server:
            server.set(f"celery-task-meta-{task_id}", json.dumps(vector["stored"]))
        result = reader.AsyncResult(task_id)
        said = vector["client"]
        if not said.startswith("raised "):
            assert result.get(timeout=5) == 5
        elif "task_id" in said:
            with pytest.raises(DecodeError, match="task_id"):
                result.get(timeout=5)
        else:
            with pytest.raises(Exception) as caught:
                result.get(timeout=5)
            _check_error(caught.value, said)
        reader.close()


def _check_error(error: BaseException, said: str) -> None:
    """``said``: "raised celery.exceptions.Nope: Nope('k', 1)"."""
    name = said.removeprefix("raised ").partition(":")[0].rpartition(".")[2]
    if name == "SecurityError":
        assert not isinstance(error, OSError) and isinstance(error, (UmbelError, Exception))
        return
    assert type(error).__name__.rpartition(".")[2] == name
    assert said.endswith(f"({', '.join(map(repr, error.args))})")


# -- what we write ---------------------------------------------------------------------------------

READER = """
import json, sys
from celery import Celery
from celery.worker.request import create_request_cls, Request
from kombu.transport.virtual import Message
from celery.app.trace import build_tracer
from kombu.serialization import enable_insecure_serializers
enable_insecure_serializers(["json", "pickle", "yaml", "msgpack"])

app = Celery("reader", broker="memory://", backend="cache+memory://", set_as_current=True)
app.conf.accept_content = ["json", "pickle", "yaml", "msgpack"]
app.finalize()

class Channel:
    def decode_body(self, body, encoding=None):
        import base64
        return base64.b64decode(body) if encoding == "base64" else body
    def prepare_message(self, *a, **k): ...

for line in sys.stdin:
    payload = json.loads(line)
    message = Message(payload, channel=Channel(), accept={"application/json", "application/x-python-serialize",
                                                         "application/x-yaml", "application/x-msgpack"})
    name = message.headers["task"]
    if name not in app.tasks:
        def run(*args, **kwargs): ...
        app.task(name=name, shared=False)(run)
        app.finalize()
    request = Request(message, app=app, task=app.tasks[name], decoded=False)
    args, kwargs, embed = request.args, request.kwargs, message.payload[2]
    print(json.dumps({
        "id": request.id, "task": request.task.name, "args": repr(list(args)), "kwargs": repr(kwargs), "embed": embed,
        "eta": request.eta.isoformat() if request.eta else None,
        "expires": request.expires.isoformat() if request.expires else None,
        "timelimit": list(request.time_limits), "root_id": request.root_id, "parent_id": request.parent_id,
        "group": request.group, "correlation_id": request.correlation_id, "reply_to": request.reply_to,
        "priority": message.properties["priority"], "info": message.delivery_info,
    }), flush=True)
"""


def test_every_message_of_ours_is_accepted_by_celerys_own_message_handling() -> None:
    app: Any = Umbel(
        "writer",
        broker="memory://interop-writer",
        backend="memory://interop-writer",
        mixed_fleet=True,
        set_as_current=False,
    )
    know(app, "wire.add")
    add = app.tasks["wire.add"]
    calls: list[dict[str, Any]] = [
        {},
        {"countdown": 100},
        {"expires": 100},
        {"time_limit": 30, "soft_time_limit": 20.5},
        {"priority": 9, "headers": {"x-own": [1, {"a": None}]}},
        {"link": add.s(1), "link_error": add.si(2)},
        {"queue": "other", "shadow": "shown", "ignore_result": True},
        *({"serializer": name} for name in ("json", "pickle", "yaml", "msgpack")),
        *({"compression": name} for name in ("zlib", "gzip", "bzip2", "lzma")),
        {"task_id": "ä\n€😀", "stamped_headers": ["s"], "stamps": {"s": "t"}},
    ]
    sent: list[Message] = []
    for options in calls:
        add.apply_async((2, "é"), {"z": [1.5, None]}, **options)
        for queue in ("celery", "other"):
            sent += app.broker.peek(queue, 10)
            app.broker.purge(queue)
    assert len(sent) == len(calls)
    text = b"\n".join(encode_envelope(message) for message in sent)
    done = subprocess.run([celery_python(), "-c", READER], input=text, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    read = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(read) == len(sent)
    for message, seen, options in zip(sent, read, calls, strict=True):
        assert (seen["id"], seen["task"]) == (message.id, "wire.add")
        assert (seen["args"], seen["kwargs"]) == ("[2, 'é']", "{'z': [1.5, None]}")
        assert (seen["eta"] is None) == ("countdown" not in options)
        assert (seen["expires"] is None) == ("expires" not in options)
        assert seen["timelimit"] == [options.get("time_limit"), options.get("soft_time_limit")]
        assert seen["root_id"] == seen["correlation_id"] == message.id and seen["reply_to"] == message.reply_to
        assert seen["priority"] == options.get("priority", 0)
        assert seen["info"] == {"exchange": "", "routing_key": options.get("queue", "celery")}
        assert bool(seen["embed"]["callbacks"]) == bool(seen["embed"]["errbacks"]) == ("link" in options)
    app.close()
