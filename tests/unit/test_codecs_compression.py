"""Every compression name there and back, truncated and hostile data, marked results."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from umbel.codecs import compress, compression, decompress, loads, register_compression
from umbel.codecs.results import unwrap, wrap_compressed
from umbel.errors import ConfigurationError, ContentDisallowed, DecodeError, MissingExtra

TYPES = {
    "zlib": "application/x-gzip",
    "gzip": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
    "brotli": "application/x-brotli",
    "zstd": "application/zstd",
    "zstandard": "application/zstd",
}
FOREIGN = {
    "zlib": zlib.decompress,
    "bzip2": bz2.decompress,
    "lzma": lzma.decompress,
    "brotli": brotli.decompress,
    "zstd": zstandard.decompress,
}


@pytest.mark.parametrize("name", TYPES)
@given(body=st.binary())
def test_round_trip(name: str, body: bytes) -> None:
    packed, content_type = compress(body, name)
    assert content_type == TYPES[name]
    assert decompress(packed, content_type) == body


@pytest.mark.parametrize("name", FOREIGN)
def test_others_can_read_it(name: str) -> None:
    body = b"umbel " * 1000
    packed, _ = compress(body, name)
    assert len(packed) < len(body)
    assert FOREIGN[name](packed) == body


@pytest.mark.parametrize("name", FOREIGN)
def test_truncated_and_garbage(name: str) -> None:
    packed, content_type = compress(bytes(range(256)) * 40, name)
    for bad in (packed[:-3], packed[: len(packed) // 2], b"", b"garbage" * 10):
        with pytest.raises(DecodeError):
            decompress(bad, content_type)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_bomb_is_refused(name: str) -> None:
    packed, content_type = compress(bytes(40_000_000), name)
    assert len(packed) < 100_000
    with pytest.raises(DecodeError, match="more than 1000000 bytes"):
        decompress(packed, content_type, 1_000_000)
    assert len(decompress(packed, content_type, 40_000_000)) == 40_000_000


def test_a_zstd_bomb_that_hides_its_size() -> None:
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(40_000_000))
    with pytest.raises(DecodeError, match="more than 1000000 bytes"):
        decompress(packed, "application/zstd", 1_000_000)
    assert len(decompress(packed, "application/zstd")) == 40_000_000
    with pytest.raises(DecodeError, match="too early"):
        decompress(packed[:-3], "application/zstd")


def test_real_gzip_and_joined_streams_are_read() -> None:
    assert decompress(gzip.compress(b"abc"), "application/x-gzip") == b"abc"
    assert decompress(bz2.compress(b"a") + bz2.compress(b"b"), "application/x-bz2") == b"ab"
    assert decompress(lzma.compress(b"a") + lzma.compress(b"b"), "application/x-lzma") == b"ab"


def test_unknown_names() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'zlib'"):
        compress(b"", "zlb")
    with pytest.raises(DecodeError, match="application/x-no"):
        decompress(b"", "application/x-no")


@pytest.mark.parametrize(("name", "module"), [("brotli", "brotli"), ("zstd", "zstandard")])
def test_missing_library(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"umbel\[{name}\]"):
        compress(b"", name)
    with pytest.raises(MissingExtra):
        decompress(b"", TYPES[name])


def test_own_compression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_by_name", dict(compression._by_name))
    monkeypatch.setattr(compression, "_by_type", dict(compression._by_type))
    register_compression("twice", lambda b: b + b, lambda b, limit: b[: len(b) // 2], "application/x-twice", ("two",))
    assert compress(b"ab", "two") == (b"abab", "application/x-twice")
    assert decompress(b"abab", "application/x-twice") == b"ab"
    with pytest.raises(DecodeError, match="more than 1 bytes"):
        decompress(b"abab", "application/x-twice", 1)


def test_loads_decompresses_after_the_check() -> None:
    packed, content_type = compress(b"[1]", "zlib")
    assert loads(packed, "application/json", "utf-8", {"json"}, content_type) == [1]
    with pytest.raises(ContentDisallowed):
        loads(b"no zlib", "application/json", "utf-8", {"yaml"}, content_type)
    with pytest.raises(DecodeError):
        loads(packed, "application/json", "utf-8", {"json"}, content_type, 2)


@pytest.mark.parametrize("name", TYPES)
def test_marked_results(name: str) -> None:
    stored = wrap_compressed(b'{"status": "SUCCESS"}', name)
    assert stored.startswith(b"\x00celery-compressed\x00" + TYPES[name].encode() + b"\x00")
    assert unwrap(stored) == b'{"status": "SUCCESS"}'
    with pytest.raises(DecodeError):
        unwrap(stored, 5)


def test_unmarked_and_broken_results() -> None:
    assert unwrap(b'{"a": 1}') == b'{"a": 1}'
    for broken in (b"\x00celery-compressed\x00", b"\x00celery-compressed\x00x/y\x00abc"):
        with pytest.raises(DecodeError):
            unwrap(broken)
