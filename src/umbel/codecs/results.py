"""Compressed results: what a result backend stores when ``result_compression`` is set.

The stored bytes begin with a mark and the content type of the compression, by which readers know them.
"""

from __future__ import annotations

from umbel.codecs.compression import DEFAULT_MAX_SIZE, compress, decompress
from umbel.errors import DecodeError

_MARK = b"\x00celery-compressed\x00"
_LONGEST_CONTENT_TYPE = 256


def wrap_compressed(payload: bytes, name: str) -> bytes:
    """``payload`` compressed by the method called ``name``, with the mark in front.

    Raises ConfigurationError for an unknown name, MissingExtra when its library is not installed.
    """
    compressed, content_type = compress(payload, name)
    return b"".join((_MARK, content_type.encode(), b"\x00", compressed))


def unwrap(stored: bytes, max_size: int = DEFAULT_MAX_SIZE) -> bytes:
    """The result in ``stored``, which is returned unchanged if it is not marked as compressed.

    Raises DecodeError for bad data or more than ``max_size`` bytes, MissingExtra.
    """
    if not stored.startswith(_MARK):
        return stored
    end = stored.find(b"\x00", len(_MARK), len(_MARK) + _LONGEST_CONTENT_TYPE)
    if end < 0:
        raise DecodeError("a compressed result does not name its compression")
    return decompress(stored[end + 1 :], stored[len(_MARK) : end].decode("ascii", "replace"), max_size)
