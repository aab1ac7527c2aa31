"""Results in Redis as Celery writes them: keys, time to live and the fast way to a JSON document.

Shared by the backend and the broker's settlements.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from umbel.backends.base import Meta, Options, Part
from umbel.backends.document import encode_document
from umbel.codecs import dumps

META = "celery-task-meta-"
GROUP = "celery-taskset-meta-"


def prefix_of(key_prefix: str) -> str:
    """What stands before every key under ``key_prefix``: Celery sets it off with ``_`` unless it ends in ``:_-.``."""
    if not key_prefix or key_prefix[-1] in ":_-.":
        return key_prefix
    return key_prefix + "_"


def result_key(prefix: str, task_id: str) -> str:
    """The key of a result, which is also the channel on which it is published. ``prefix`` as by ``prefix_of``."""
    return f"{prefix}{META}{task_id}"


def chord_key(prefix: str, chord: str) -> str:
    """What the keys of a chord begin with: ``.j`` its parts by index, ``.d`` which are in, ``.s`` its size, ``.t`` how
    many were added to that, ``.c`` who finishes it, or ``done``."""
    return f"{prefix}{GROUP}{chord}"


def part_arguments(prefix: str, part: Part) -> tuple[Any, ...]:
    """The arguments of ``add_part`` in the scripts, except for the last."""
    return (
        chord_key(prefix, part.chord),
        f"{part.member}:{part.index}",
        part.index,
        part.payload,
        part.size,
        part.added,
        milliseconds_of(part.expires),
    )


def milliseconds_of(seconds: float) -> int:
    """A time to live for Redis: 0 for never, otherwise at least one."""
    return max(1, int(seconds * 1000)) if seconds > 0 else 0


class _Document(Struct, gc=False):
    """The usual result document, in Celery's field order."""

    status: str
    result: Any
    traceback: str | None
    children: Any
    date_done: str | None
    group_id: str | UnsetType
    parent_id: str | UnsetType
    task_id: str


_encode = msgspec.json.Encoder().encode
_SCALARS = frozenset({type(None), bool, int})


def encode_result(meta: Meta, options: Options) -> bytes:
    """What is stored for ``meta``. Raises EncodeError when its result cannot be serialized.

    The same document as by ``encode_document``, without a dict in between for what most results are: plain JSON.
    """
    if options.serializer != "json" or options.compression or meta.name is not None:
        return encode_document(meta, options)
    children = meta.children
    document = _Document(
        meta.status,
        meta.result if type(meta.result) in _SCALARS else Raw(dumps(meta.result, "json").body),
        meta.traceback,
        Raw(dumps(children, "json").body) if children else children,
        meta.date_done,
        UNSET if meta.group_id is None else meta.group_id,
        UNSET if meta.parent_id is None else meta.parent_id,
        meta.task_id,
    )
    try:
        return _encode(document)
    except UnicodeEncodeError:
        return encode_document(meta, options)
