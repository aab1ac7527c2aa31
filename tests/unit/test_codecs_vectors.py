"""Reads what real Celery wrote: a small set kept here, and the whole capture where it is at hand."""

from __future__ import annotations

import base64
import json
import os
import pathlib
from typing import Any

import pytest

from umbel import errors
from umbel.codecs import accept_set, dumps, loads
from umbel.codecs.exceptions import RemoteException, decode_exception
from umbel.codecs.results import unwrap

ROOT = pathlib.Path(__file__).parents[2]
KEPT = ROOT / "tests" / "data" / "wire"
CAPTURE = pathlib.Path(os.environ.get("UMBEL_VECTORS") or ROOT.parent / "shared" / "wire" / "vectors")
ALL = accept_set(["json", "pickle", "yaml", "msgpack"])

needs_capture = pytest.mark.skipif(
    not CAPTURE.is_dir(), reason="no golden vectors: set UMBEL_VECTORS to their directory"
)

BODIES = json.loads((KEPT / "bodies.json").read_text())
RESULTS = json.loads((KEPT / "results.json").read_text())
EXCEPTIONS = json.loads((KEPT / "exceptions.json").read_text())


def as_json(value: Any) -> Any:
    """``value`` as JSON shows it, typed values included, to compare with what Celery showed."""
    return json.loads(dumps(value, "json").body)


def check_body(body: bytes, content_type: str, encoding: str, compression: str | None, decoded: Any) -> None:
    value = as_json(loads(body, content_type, encoding, ALL, compression))
    if decoded is not None:
        assert value == decoded
    elif isinstance(value, list):
        assert set(value[2]) == {"callbacks", "errbacks", "chain", "chord"}
    else:
        assert {"task", "id", "args", "kwargs"} <= set(value)


@pytest.mark.parametrize("vector", BODIES, ids=lambda v: v["scenario"])
def test_kept_body(vector: dict[str, Any]) -> None:
    body = base64.b64decode(vector["body_b64"])
    check_body(body, vector["content_type"], vector["content_encoding"], vector["compression"], vector["decoded"])


def test_kept_bodies_cover_every_serializer_and_compression() -> None:
    assert {vector["content_type"] for vector in BODIES} == ALL
    assert {vector["compression"] for vector in BODIES} == {
        None,
        "application/x-gzip",
        "application/x-bz2",
        "application/x-lzma",
        "application/x-brotli",
        "application/zstd",
    }


@pytest.mark.parametrize("vector", RESULTS, ids=lambda v: f"{v['variant']}-{v['task_id'][:8]}")
def test_kept_result(vector: dict[str, Any]) -> None:
    check_result(vector["variant"], base64.b64decode(vector["stored_b64"]), vector["task_id"])


def check_result(variant: str, stored: bytes, task_id: str) -> None:
    name = variant if variant in {"pickle", "yaml", "msgpack"} else "json"
    plain = unwrap(stored)
    assert (plain != stored) == (variant == "compression_gzip")
    meta = loads(plain, accept_type(name), "binary" if name in {"pickle", "msgpack"} else "utf-8", ALL)
    assert meta["task_id"] == task_id
    assert {"status", "result", "traceback", "children", "date_done"} <= set(meta)


def accept_type(name: str) -> str:
    (content_type,) = accept_set([name])
    return content_type


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_kept_exception(name: str) -> None:
    payload = loads(json.dumps(EXCEPTIONS[name]).encode(), "application/json", "utf-8", ALL)
    exc = decode_exception(payload)
    assert type(exc).__name__ == payload["exc_type"]
    assert list(exc.args) == payload["exc_message"]
    if payload["exc_module"] == "wireapp":
        assert isinstance(exc, RemoteException)
        assert type(exc).__module__ == "wireapp"
    elif payload["exc_module"] == "builtins":
        assert type(exc) is KeyError
    else:
        assert type(exc) is getattr(errors, payload["exc_type"])


@needs_capture
@pytest.mark.parametrize("file", ["redis_messages", "redis_messages_v1", "redis_messages_chord_unlock"])
def test_captured_redis_bodies(file: str) -> None:
    count = 0
    for scenario in json.loads((CAPTURE / f"{file}.json").read_text())["scenarios"].values():
        for message in scenario["messages"]:
            envelope = message["envelope"]
            check_body(
                base64.b64decode(envelope["body"]),
                envelope["content-type"],
                envelope["content-encoding"],
                envelope["headers"].get("compression"),
                message.get("body_decoded"),
            )
            count += 1
    assert count


@needs_capture
@pytest.mark.parametrize("file", ["rabbit_messages", "rabbit_messages_v1"])
def test_captured_rabbitmq_bodies(file: str) -> None:
    count = 0
    for scenario in json.loads((CAPTURE / f"{file}.json").read_text())["scenarios"].values():
        for message in scenario["messages"]:
            properties = message["properties"]
            check_body(
                base64.b64decode(message["body_b64"]),
                properties["content_type"],
                properties["content_encoding"],
                properties.get("application_headers", {}).get("compression"),
                message.get("body_decoded"),
            )
            count += 1
    assert count


@needs_capture
def test_captured_events_and_remote_control() -> None:
    bodies = [event["body_b64"] for event in json.loads((CAPTURE / "rabbit_events.json").read_text())]
    for call in json.loads((CAPTURE / "rabbit_pidbox.json").read_text()).values():
        bodies += [message["body_b64"] for message in call["command_messages"] + call["reply_messages"]]
    assert len(bodies) > 200
    for body in map(base64.b64decode, bodies):
        assert as_json(loads(body, "application/json", "utf-8", {"json"})) == json.loads(body)


@needs_capture
@pytest.mark.parametrize("variant", ["yaml", "msgpack", "compression_gzip", "result_extended", "no_expiry"])
def test_captured_results(variant: str) -> None:
    keys = json.loads((CAPTURE / "redis_result_variants.json").read_text())[variant]["keys_after"]
    metas = {key: entry["value"] for key, entry in keys.items() if "task-meta-" in key}
    assert metas
    for key, value in metas.items():
        stored = base64.b64decode(value["b64"]) if "b64" in value else value["text"].encode()
        check_result(variant, stored, key.rpartition("task-meta-")[2])
