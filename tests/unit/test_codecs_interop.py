"""A real Celery reads what is written here, and the other way round. Needs a Python that has Celery."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import os
import pathlib
import subprocess
import uuid
from typing import Any

import pytest

from umbel import errors
from umbel.codecs import compress, dumps, loads
from umbel.codecs.exceptions import decode_exception, encode_exception

CELERY_PYTHON = pathlib.Path(
    os.environ.get("UMBEL_CELERY_PYTHON") or pathlib.Path(__file__).parents[2] / ".venvs" / "celery" / "bin" / "python"
)

pytestmark = pytest.mark.skipif(
    not CELERY_PYTHON.exists(), reason="no Celery: set UMBEL_CELERY_PYTHON to a Python that has it"
)

# Reads [content type, encoding, compression, body] per line; answers the repr of the value and what Celery
# itself makes of it: [content type, encoding, compression, body].
PEER = """
import base64, json, sys
from kombu.compression import compress, decompress
from kombu.serialization import dumps, loads, registry
registry.enable("pickle")
for line in sys.stdin:
    content_type, encoding, compression, body = json.loads(line)
    body = base64.b64decode(body)
    if compression:
        body = decompress(body, compression)
    value = loads(body, content_type, encoding, accept=[content_type])
    kind, charset, again = dumps(value, registry.type_to_name[content_type])
    again = again if isinstance(again, bytes) else again.encode()
    if compression:
        again, compression = compress(again, compression)
    print(json.dumps([repr(value), kind, charset, compression, base64.b64encode(again).decode()]))
"""

RICH = [
    dt.datetime(2026, 1, 2, 3, 4, 5, 678, dt.UTC),
    dt.datetime(2026, 1, 2),
    dt.date(2026, 1, 2),
    dt.time(3, 4, 5),
    decimal.Decimal("1.10"),
    uuid.UUID(int=77),
    b"text",
    b"\xff\x00",
    float("inf"),
    2**100,
    "\ud800 é \u2028 \U0001f33f",
    {"1": [None, True, -0.5]},
]


def run_peer(script: str, lines: list[Any]) -> list[Any]:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([CELERY_PYTHON, "-c", script], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ["json", "pickle"])
@pytest.mark.parametrize("compression", [None, "zlib", "bzip2", "lzma"])
def test_values(name: str, compression: str | None) -> None:
    encoded = dumps(RICH, name)
    body, packed_type = compress(encoded.body, compression) if compression else (encoded.body, None)
    line = [encoded.content_type, encoded.content_encoding, packed_type, base64.b64encode(body).decode()]
    ((shown, content_type, encoding, packed_type, again),) = run_peer(PEER, [line])
    assert shown == repr(RICH)
    assert loads(base64.b64decode(again), content_type, encoding, {name}, packed_type) == RICH


EXCEPTION_PEER = """
import json, sys
from celery import Celery
from celery.backends.base import BaseBackend
backend = BaseBackend(Celery(set_as_current=False), serializer="json")
for line in sys.stdin:
    exc = backend.exception_to_python(json.loads(line))
    again = backend.prepare_exception(exc, "json")
    cls = type(exc)
    print(json.dumps([cls.__module__, cls.__name__, list(exc.args), again]))
"""


def test_exceptions() -> None:
    sent = [
        errors.TaskRevokedError("revoked"),
        errors.TimeLimitExceeded(3),
        errors.WorkerLostError("gone"),
        errors.ChordError("part failed"),
        errors.OperationalError("down"),
        errors.ConfigurationError("bad"),
        errors.TimeoutError("late"),
        errors.MaxRetriesExceededError("often"),
        KeyError("k"),
    ]
    payloads = [encode_exception(exc, "json") for exc in sent]
    answers = run_peer(EXCEPTION_PEER, payloads)
    for exc, payload, (module, name, args, again) in zip(sent, payloads, answers, strict=True):
        assert (module, name, args) == (payload["exc_module"], payload["exc_type"], list(exc.args))
        back = decode_exception(again)
        assert type(back) is type(exc)
        assert back.args == exc.args
