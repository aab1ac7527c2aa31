"""Headers on RabbitMQ: JSON and AMQP tables, frames as Celery writes them (golden vectors), foreign field types."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import SelectConnection, spec
from pika.data import encode_table as pika_table

from umbel.brokers.amqp.connection import Connection
from umbel.brokers.amqp.frames import encode_properties, properties_of, publish_frames
from umbel.brokers.amqp.posts import expiration_of, post_to
from umbel.brokers.amqp.tables import decode_table, encode_table
from umbel.errors import DecodeError, EncodeError, MessageTooLarge
from umbel.message import Message

VECTORS = json.loads(Path(__file__).with_name("test_amqp_vectors.json").read_text())
FRAMES = [(name, frame) for name, frames in VECTORS["headers"].items() for frame in frames]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), inner)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), json_values))
def test_what_is_json_comes_back_as_it_was(table: dict[str, Any]) -> None:
    encoded = encode_table(table)
    again, end = decode_table(b"\x00\x01" + encoded, 2)
    assert json.dumps(again) == json.dumps(table)
    assert end == len(encoded) + 2
    assert decode_table(encoded)[0] == again, "the second time by its remembered layout"


def test_remembered_layout_is_not_taken_for_another_table() -> None:
    first = {"task": "a.b", "retries": 0, "id": "0001", "timelimit": [None, 1.5]}
    variants = [
        first,
        {**first, "id": "0002"},
        {**first, "retries": 1},
        {**first, "task": "x.y", "id": "ü2"},
        {"task": "a.b", "retries": 0, "ix": "0001", "timelimit": [None, 1.5]},
        {"task": "a.bc", "retries": 0, "id": "001", "timelimit": [None, 1.5]},
        {**first, "timelimit": [None, 2.5]},
    ]
    for _ in range(2):
        for table in variants:
            assert decode_table(encode_table(table))[0] == table


def test_foreign_types_become_json() -> None:
    moment = datetime.datetime(2026, 11, 22, 17, 26, 28, tzinfo=datetime.UTC)
    pieces: list[bytes] = []
    pika_table(
        pieces,
        {
            "at": moment,
            "raw": b"text",
            "bytes": b"\xff\x00",
            "price": decimal.Decimal("1.25"),
            "n": 5,
            "list": [moment],
        },
    )
    pieces.append(b"")
    assert decode_table(b"".join(pieces))[0] == {
        "at": "2026-11-22T17:26:28+00:00",
        "raw": "text",
        "bytes": base64.b64encode(b"\xff\x00").decode(),
        "price": "1.25",
        "n": 5,
        "list": ["2026-11-22T17:26:28+00:00"],
    }


@pytest.mark.parametrize("code", ["b", "B", "s", "u", "i", "L", "f"])
def test_every_number_type_is_read(code: str) -> None:
    shapes = {"b": "b", "B": "B", "s": "h", "u": "H", "i": "I", "L": "q", "f": "f"}
    body = b"\x01n" + code.encode() + struct.pack(">" + shapes[code], 7)
    assert decode_table(len(body).to_bytes(4, "big") + body)[0] == {"n": 7}


@pytest.mark.parametrize("raw", [b"", b"\x00\x00\x00\x09", b"\x00\x00\x00\x03\x01nS", b"\x00\x00\x00\x03\x01n?"])
def test_broken_table_is_a_decode_error(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_table(raw)


def test_what_amqp_cannot_carry_is_an_encode_error() -> None:
    with pytest.raises(EncodeError, match="64 bits"):
        encode_table({"n": 2**63})
    with pytest.raises(EncodeError, match="255"):
        encode_table({"n" * 256: 1})


def test_headers_larger_than_a_frame_are_refused_before_sending() -> None:
    properties = encode_properties({"x": "y" * 200_000}, content_type="a", content_encoding="b")
    with pytest.raises(MessageTooLarge, match="headers"):
        publish_frames(1, "", "q", True, properties, b"", 131072)


def header_of(message_properties: bytes, length: int) -> bytes:
    return b"\x00\x3c\x00\x00" + length.to_bytes(8, "big") + message_properties


@pytest.mark.parametrize(("name", "vector"), FRAMES, ids=[name for name, _ in FRAMES])
def test_celerys_header_frame_is_read_and_written_byte_for_byte(name: str, vector: dict[str, Any]) -> None:
    raw = base64.b64decode(vector["header_frame_b64"])
    read = properties_of(raw)
    expected = vector["properties"]
    for field in ("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to"):
        assert getattr(read, field) == expected[field]
    assert read.expiration == expected.get("expiration", "")
    message = Message(
        id=read.correlation_id,
        task=read.headers["task"],
        queue="celery",
        headers=read.json(),
        body=b"",
        content_type=read.content_type,
        content_encoding=read.content_encoding,
        priority=read.priority,
        reply_to=read.reply_to,
        correlation_id=read.correlation_id,
        delivery_mode=read.delivery_mode,
    )
    post = post_to(message, "", "celery", expiration=read.expiration)
    assert header_of(post.properties, vector["body_length"]) == raw


@pytest.mark.parametrize("vector", VECTORS["results"])
def test_celerys_rpc_results_are_read_and_written_byte_for_byte(vector: dict[str, str]) -> None:
    raw = base64.b64decode(vector["header_frame_b64"])
    read = properties_of(raw)
    properties = encode_properties(
        {},
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=1,
        correlation_id=read.correlation_id,
    )
    assert header_of(properties, len(base64.b64decode(vector["body_b64"]))) == raw


def test_expiration_is_capped_at_what_rabbitmq_takes() -> None:
    import time

    def message(expires: float) -> Message:
        return Message(id="1", task="t", queue="q", headers=b"{}", body=b"", expires=expires)

    day = 86_400_000
    assert day + 59_000 <= int(expiration_of(message(time.time() + 60))) <= day + 60_000
    assert expiration_of(message(time.time() - 90_000)) == "0"
    assert expiration_of(message(time.time() + 60 * 86400)) == ""


def test_the_internals_of_pika_that_are_used_exist() -> None:
    for name in ("_on_data_available", "_output_marshaled_frames", "_process_frame", "_terminate_stream"):
        assert callable(getattr(SelectConnection, name)), name
    assert callable(SelectConnection._proto_connection_made)
    assert issubclass(Connection, SelectConnection)
    assert spec.Basic.Qos.INDEX == 0x003C000A
