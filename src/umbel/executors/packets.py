"""What is in the packets between supervisor and executor.

A packet is an eight-byte number (the supervisor's number of the task; 0 for none) and, after it, one byte of kind and
a MessagePack body. The number alone identifies a packet that was taken back.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from umbel.backends.base import Part, Result
from umbel.message import Message

_HEAD = struct.Struct("<QB")
_HEAD_SIZE = _HEAD.size
_WORTH_A_VIEW = 16 * 1024

TASK = 1
STOP = 2
OUTCOME = 3
REPORT = 4
REFUSED = 5
RETIRING = 6
BUNDLE = 7
ENDED = 8


class Assignment(Struct, array_like=True, gc=False):
    """Supervisor → executor: run this. ``deliveries``: earlier deliveries that came to no end. ``soft``: soft time
    limit in seconds; hard ones are the supervisor's matter."""

    message: Message
    deliveries: int = 0
    soft: float | None = None


class Report(Struct, array_like=True, gc=False):
    """Executor → supervisor: how a task ended.

    ``action``: value of ``brokers.base.Action``. ``runtime``, ``delay``: seconds. ``error``: one line for the log;
    ``traceback`` the text under it.
    """

    state: str
    runtime: float
    result: Result | None = None
    publish: tuple[Message, ...] = ()
    action: str = "ack"
    delay: float = 0.0
    reason: str = ""
    error: str = ""
    traceback: str | None = None
    parts: tuple[Part, ...] = ()
    closes: str = ""


_encoder = msgspec.msgpack.Encoder()
_assignment_decoder = msgspec.msgpack.Decoder(Assignment)
_report_decoder = msgspec.msgpack.Decoder(Report)
_bundle_decoder = msgspec.msgpack.Decoder(list[bytes])
_result_decoder = msgspec.msgpack.Decoder(Result)


def number_of(packet: bytes) -> int:
    return _HEAD.unpack_from(packet)[0]


def kind_of(packet: bytes) -> int:
    return packet[8]


def head_of(packet: bytes) -> tuple[int, int]:
    """Number and kind of a packet that is not empty."""
    return _HEAD.unpack_from(packet)


def _body_of(packet: bytes) -> bytes | memoryview:
    """What follows the head: a copy of a few bytes takes less time than a view of them."""
    return packet[_HEAD_SIZE:] if len(packet) < _WORTH_A_VIEW else memoryview(packet)[_HEAD_SIZE:]


def encode_task(number: int, message: Message, deliveries: int, soft: float | None = None) -> bytes:
    return _HEAD.pack(number, TASK) + _encoder.encode(Assignment(message, deliveries, soft))


def decode_task(packet: bytes) -> Assignment:
    return _assignment_decoder.decode(_body_of(packet))


def encode_stop() -> bytes:
    return _HEAD.pack(0, STOP)


def encode_refused(number: int) -> bytes:
    """Executor → supervisor: not begun, because the worker's lease had run out."""
    return _HEAD.pack(number, REFUSED)


def encode_ended(number: int) -> bytes:
    """Executor → supervisor: ended by force, as the supervisor has asked; it knows what that means for the task."""
    return _HEAD.pack(number, ENDED)


def encode_retiring(reason: str) -> bytes:
    """Executor → supervisor: it reads no more and exits, for this reason; the last packet that it sends."""
    return _HEAD.pack(0, RETIRING) + reason.encode()


def decode_retiring(packet: bytes) -> str:
    return packet[_HEAD_SIZE:].decode()


def encode_success(number: int, runtime: float, result: Result | None) -> bytes:
    """Report of a task that succeeded, and after which nothing is to be sent: the first fields of a ``Report``."""
    return _HEAD.pack(number, OUTCOME) + _encoder.encode(("SUCCESS", runtime, result))


def encode_report(number: int, report: Report) -> bytes:
    return _HEAD.pack(number, OUTCOME) + _encoder.encode(report)


def decode_report(packet: bytes) -> Report:
    return _report_decoder.decode(_body_of(packet))


def encode_bundle(packets: Sequence[bytes]) -> bytes:
    """Executor → supervisor: several packets that have come up at once, in their order."""
    return _HEAD.pack(0, BUNDLE) + _encoder.encode(packets)


def decode_bundle(packet: bytes) -> list[bytes]:
    return _bundle_decoder.decode(memoryview(packet)[_HEAD_SIZE:])


def encode_state(number: int, result: Result) -> bytes:
    """Executor → supervisor: store this state of a task that is still running."""
    return _HEAD.pack(number, REPORT) + _encoder.encode(result)


def decode_state(packet: bytes) -> Result:
    return _result_decoder.decode(memoryview(packet)[_HEAD_SIZE:])
