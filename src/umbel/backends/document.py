"""A result as one string: the document of key–value stores, serialized by ``options.serializer`` and compressed."""

from __future__ import annotations

from typing import Any

from umbel.backends.base import Meta, Options, meta_document, read_document
from umbel.codecs import dumps, loads, serializer
from umbel.codecs.results import unwrap, wrap_compressed
from umbel.errors import DecodeError


def encode_document(meta: Meta, options: Options) -> bytes:
    """The bytes stored for ``meta``. Raises EncodeError when its result cannot be serialized."""
    payload = dumps(meta_document(meta), options.serializer).body
    return wrap_compressed(payload, options.compression) if options.compression else payload


def decode_document(payload: bytes, options: Options) -> Meta:
    """The meta in stored bytes. Raises DecodeError, or ContentDisallowed when the serializer is not accepted."""
    kind = serializer(options.serializer)
    document: Any = loads(unwrap(payload), kind.content_type, kind.content_encoding, options.accept)
    if not isinstance(document, dict):
        raise DecodeError(f"a result document is a mapping, not {type(document).__name__}")
    return read_document(document)  # pyright: ignore[reportUnknownArgumentType]
