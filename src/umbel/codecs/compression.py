"""The registry of compression methods.

A compressed body is announced by the content type of its compression. Celery's names are kept, with its one
oddity: ``gzip`` is a bare zlib stream. Reading stops at a size limit, so a small message cannot fill memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from umbel.errors import ConfigurationError, DecodeError, MissingExtra

DEFAULT_MAX_SIZE = 256 * 1024 * 1024
"""The most bytes that a body may decompress to unless the caller says otherwise."""

_STEP = 1024 * 1024
_LZMA_MEMORY = 512 * 1024 * 1024
_ZSTD_SLICE = 512  # a block of 4 bytes can stand for 128 KiB, so a slice for 16 MiB


class _Method(msgspec.Struct, frozen=True):
    content_type: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes, int], bytes]


_by_name: dict[str, _Method] = {}
_by_type: dict[str, _Method] = {}


def register_compression(
    name: str,
    compress: Callable[[bytes], bytes],
    decompress: Callable[[bytes, int], bytes],
    content_type: str,
    aliases: Iterable[str] = (),
) -> None:
    """Add a compression method, or replace the one of this name or content type.

    ``decompress(body, limit)`` may stop as soon as it has more than ``limit`` bytes; what it returns beyond
    that is refused.
    """
    method = _Method(content_type, compress, decompress)
    _by_type[content_type] = method
    for each in (name, *aliases):
        _by_name[each] = method


def compress(body: bytes, name: str) -> tuple[bytes, str]:
    """``body`` compressed by the method of this name or content type, and the content type to announce.

    Raises ConfigurationError for an unknown name, MissingExtra when the library is not installed.
    """
    method = _by_name.get(name) or _by_type.get(name)
    if method is None:
        import difflib

        close = difflib.get_close_matches(str(name), [*_by_name, *_by_type], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(_by_name))}"
        raise ConfigurationError(f"unknown compression {name!r}: {hint}")
    return method.compress(body), method.content_type


def decompress(body: bytes, content_type: str, max_size: int = DEFAULT_MAX_SIZE) -> bytes:
    """The bytes in ``body``, by the method of this content type or name.

    Raises DecodeError for bad data, an unknown content type, or more than ``max_size`` bytes; MissingExtra.
    """
    method = _by_type.get(content_type) or _by_name.get(content_type)
    if method is None:
        raise DecodeError(f"unknown compression {content_type!r}")
    try:
        plain = method.decompress(body, max_size)
    except (DecodeError, MissingExtra):
        raise
    except Exception as error:
        message = f"{len(body)} bytes are not valid {content_type}: {type(error).__name__}: {error}"
        raise DecodeError(message) from error
    if len(plain) > max_size:
        raise DecodeError(f"{len(body)} bytes of {content_type} decompress to more than {max_size} bytes")
    return plain


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"compression {extra!r}", extra) from error


def _inflate(body: bytes, limit: int, start: Callable[[], Any]) -> bytes:
    """Concatenated streams by a decompressor with the interface of bz2's; at most a byte over ``limit``."""
    out: list[bytes] = []
    size = 0
    rest = body
    while True:
        stream = start()
        while not stream.eof and size <= limit:
            piece = stream.decompress(rest, min(_STEP, limit + 1 - size))
            if not piece and not stream.eof and stream.needs_input:
                raise DecodeError("compressed data ends too early")
            rest = b""
            out.append(piece)
            size += len(piece)
        rest = stream.unused_data
        if not rest or size > limit:
            return b"".join(out)


# -- zlib ------------------------------------------------------------------------------------------


def _compress_zlib(body: bytes) -> bytes:
    import zlib

    return zlib.compress(body)


def _decompress_zlib(body: bytes, limit: int) -> bytes:
    import zlib

    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # zlib or gzip header
    plain = stream.decompress(body, limit + 1)
    if not stream.eof and len(plain) <= limit:
        raise DecodeError("compressed data ends too early")
    return plain


# -- bzip2 -----------------------------------------------------------------------------------------


def _compress_bzip2(body: bytes) -> bytes:
    import bz2

    return bz2.compress(body)


def _decompress_bzip2(body: bytes, limit: int) -> bytes:
    import bz2

    return _inflate(body, limit, bz2.BZ2Decompressor)


# -- LZMA ------------------------------------------------------------------------------------------


def _compress_lzma(body: bytes) -> bytes:
    import lzma

    return lzma.compress(body)


def _decompress_lzma(body: bytes, limit: int) -> bytes:
    import lzma

    return _inflate(body, limit, lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY))


# -- Brotli ----------------------------------------------------------------------------------------


def _brotli() -> Any:
    return _library("brotli", "brotli")


def _compress_brotli(body: bytes) -> bytes:
    return _brotli().compress(body)


def _decompress_brotli(body: bytes, limit: int) -> bytes:
    stream = _brotli().Decompressor()
    out = [stream.process(body, output_buffer_limit=_STEP)]
    size = len(out[0])
    while not stream.is_finished() and size <= limit:
        piece = stream.process(b"", output_buffer_limit=_STEP)
        if not piece and stream.can_accept_more_data():
            raise DecodeError("compressed data ends too early")
        out.append(piece)
        size += len(piece)
    return b"".join(out)


# -- Zstandard -------------------------------------------------------------------------------------


def _zstandard() -> Any:
    return _library("zstandard", "zstd")


def _compress_zstd(body: bytes) -> bytes:
    return _zstandard().ZstdCompressor().compress(body)


def _decompress_zstd(body: bytes, limit: int) -> bytes:
    zstandard = _zstandard()
    declared = zstandard.frame_content_size(body)
    if declared > limit:
        raise DecodeError(f"{len(body)} bytes of zstd decompress to more than {limit} bytes")
    decompressor = zstandard.ZstdDecompressor()
    if declared >= 0:
        return decompressor.decompress(body)
    stream = decompressor.decompressobj()
    out: list[bytes] = []
    size = position = 0
    while not stream.eof and size <= limit:
        if position >= len(body):
            raise DecodeError("compressed data ends too early")
        piece = stream.decompress(body[position : position + _ZSTD_SLICE])
        position += _ZSTD_SLICE
        out.append(piece)
        size += len(piece)
    return b"".join(out)


register_compression("zlib", _compress_zlib, _decompress_zlib, "application/x-gzip", ("gzip",))
register_compression("bzip2", _compress_bzip2, _decompress_bzip2, "application/x-bz2", ("bzip",))
register_compression("lzma", _compress_lzma, _decompress_lzma, "application/x-lzma", ("xz",))
register_compression("brotli", _compress_brotli, _decompress_brotli, "application/x-brotli")
register_compression("zstd", _compress_zstd, _decompress_zstd, "application/zstd", ("zstandard",))
