"""The registry of serializers, and ``dumps``/``loads`` over it.

A body travels with its content type and content encoding. Reading checks the content type against what the
reader accepts before anything is decompressed or decoded.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, cast

import msgspec

from umbel.codecs import plain
from umbel.codecs.compression import DEFAULT_MAX_SIZE, decompress
from umbel.codecs.typed_json import decode as decode_json
from umbel.codecs.typed_json import encode as encode_json
from umbel.errors import ConfigurationError, ContentDisallowed, DecodeError, EncodeError, MissingExtra

RAW = "application/data"
_ALWAYS_ACCEPTED = frozenset({RAW, "application/text"})
_BINARY_ENCODINGS = frozenset({"", "binary"})
_UTF8_ENCODINGS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "UTF-8"})


class Encoded(msgspec.Struct, frozen=True):
    """A serialized value and how to read it."""

    content_type: str
    content_encoding: str
    body: bytes


class Serializer(msgspec.Struct, frozen=True, kw_only=True):
    """How one content type is written and read.

    ``encode(obj)`` returns bytes, or text that is then encoded as ``content_encoding``, or a whole
    :class:`Encoded`. ``decode`` gets bytes if ``wants_bytes`` is set or the message's encoding is binary,
    else text. ``safe`` is false where reading can run code: such a content type is never accepted unasked.
    ``requires`` is the module that has to be importable and the extra that brings it.
    """

    name: str
    content_type: str
    content_encoding: str = "utf-8"
    encode: Callable[[Any], bytes | str | Encoded]
    decode: Callable[[Any], Any]
    safe: bool = True
    wants_bytes: bool = False
    requires: tuple[str, str] | None = None


def _encode_raw(value: Any) -> Encoded:
    if isinstance(value, str):
        return Encoded(RAW, "utf-8", value.encode())
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Encoded(RAW, "binary", bytes(cast("bytes", value)))
    raise TypeError(f"raw takes bytes or str, not {type(value).__name__}")


def _encode_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text takes str, not {type(value).__name__}")
    return value


def _unchanged(payload: Any) -> Any:
    return payload


_by_name: dict[str, Serializer] = {}
_by_type: dict[str, Serializer] = {}


def _add(entry: Serializer) -> None:
    _by_name[entry.name] = entry
    _by_type[entry.content_type] = entry


for _entry in (
    Serializer(name="json", content_type="application/json", encode=encode_json, decode=decode_json, wants_bytes=True),
    Serializer(
        name="pickle",
        content_type="application/x-python-serialize",
        content_encoding="binary",
        encode=plain.encode_pickle,
        decode=plain.decode_pickle,
        safe=False,
        wants_bytes=True,
    ),
    Serializer(
        name="yaml",
        content_type="application/x-yaml",
        encode=plain.encode_yaml,
        decode=plain.decode_yaml,
        requires=("yaml", "yaml"),
    ),
    Serializer(
        name="msgpack",
        content_type="application/x-msgpack",
        content_encoding="binary",
        encode=plain.encode_msgpack,
        decode=plain.decode_msgpack,
        wants_bytes=True,
    ),
    Serializer(name="raw", content_type=RAW, encode=_encode_raw, decode=_unchanged),
    Serializer(name="text", content_type="text/plain", encode=_encode_text, decode=_unchanged),
):
    _add(_entry)
_by_type["application/text"] = _by_name["text"]


def register_serializer(
    name: str,
    encode: Callable[[Any], bytes | str | Encoded],
    decode: Callable[[Any], Any],
    content_type: str,
    content_encoding: str = "utf-8",
    safe: bool = True,
) -> None:
    """Add a serializer, or replace the one of this name or content type.

    ``decode`` is called with text, or with bytes where the message's encoding is ``binary``. Set ``safe`` to
    false if decoding can run code.
    """
    _add(
        Serializer(
            name=name,
            content_type=content_type,
            content_encoding=content_encoding,
            encode=encode,
            decode=decode,
            safe=safe,
        )
    )


def serializer(name: str) -> Serializer:
    """The serializer of this name or content type.

    Raises ConfigurationError when there is none, MissingExtra when its library is not installed.
    """
    found = _by_name.get(name) or _by_type.get(name)
    if found is None:
        raise _unknown(name)
    if found.requires is not None and not _importable(found.requires[0]):
        raise MissingExtra(f"serializer {found.name!r}", found.requires[1])
    return found


def _importable(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None  # pyright: ignore[reportUnnecessaryComparison]
    return importlib.util.find_spec(module) is not None


def _unknown(name: str) -> ConfigurationError:
    import difflib

    close = difflib.get_close_matches(str(name), [*_by_name, *_by_type], n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(_by_name))}"
    return ConfigurationError(f"unknown serializer {name!r}: {hint}")


def accept_set(names: Iterable[str]) -> frozenset[str]:
    """The content types that ``names`` (serializer names and content types) stand for.

    A content type (anything with a slash) that nobody has registered yet is kept as it is.
    Raises ConfigurationError for an unknown name.
    """
    resolved: set[str] = set()
    for name in names:
        if name in _by_name:
            resolved.add(_by_name[name].content_type)
        elif "/" in name:
            resolved.add(name)
        else:
            raise _unknown(name)
    return frozenset(resolved)


def check_accepted(content_type: str | None, accept: Collection[str]) -> None:
    """Raise ContentDisallowed unless ``accept`` (names or content types) has ``content_type``.

    Raw data (``application/data``, ``application/text``, no content type) is always accepted, unless an
    unsafe serializer is registered for it.
    """
    if content_type in accept:
        return
    kind = _normal(content_type)
    found = _by_type.get(kind)
    if kind in accept or (found is not None and found.name in accept):
        return
    if kind in _ALWAYS_ACCEPTED and found is not None and found.safe:
        return
    shown = f"{found.name} ({kind})" if found is not None else kind
    names = ", ".join(sorted(accept)) or "nothing"
    raise ContentDisallowed(f"content of type {shown} is not accepted here; accept_content allows {names}")


def _normal(content_type: str | None) -> str:
    if not content_type:
        return RAW
    return content_type.partition(";")[0].strip().lower()


def dumps(obj: Any, name: str) -> Encoded:
    """Serialize ``obj`` with the serializer called ``name``.

    Raises EncodeError that says which value cannot be serialized and where in ``obj`` it is;
    ConfigurationError for an unknown name; MissingExtra.
    """
    found = _by_name.get(name) or serializer(name)
    try:
        payload = found.encode(obj)
        if type(payload) is str:
            payload = payload.encode(found.content_encoding)
    except MissingExtra:
        raise
    except ImportError as error:
        raise _missing(found, error) or EncodeError(f"{found.name}: {error}") from error
    except RecursionError as error:
        message = f"{found.name} cannot serialize a {type(obj).__name__} that contains itself or is nested too deeply"
        raise EncodeError(message) from error
    except Exception as error:
        from umbel.codecs.diagnosis import describe_failure

        raise EncodeError(describe_failure(obj, found.name, found.encode, error)) from error
    if isinstance(payload, bytes):
        return Encoded(found.content_type, found.content_encoding, payload)
    if isinstance(payload, Encoded):
        return payload
    raise EncodeError(f"serializer {found.name!r} returned {type(payload).__name__}, not bytes or str")


def loads(
    body: bytes,
    content_type: str | None,
    content_encoding: str | None,
    accept: Collection[str],
    compression: str | None = None,
    max_size: int = DEFAULT_MAX_SIZE,
) -> Any:
    """The value in ``body``, which is first decompressed if ``compression`` (a content type) is given.

    ``accept`` holds serializer names or content types (see :func:`accept_set`); ``max_size`` bounds the
    decompressed body, in bytes. Raises ContentDisallowed before anything is decoded or decompressed,
    DecodeError for bad data, MissingExtra.
    """
    if content_type not in accept:
        check_accepted(content_type, accept)
    found = _by_type.get(content_type or RAW) or _by_type.get(_normal(content_type))
    if found is None:
        raise DecodeError(f"no serializer is registered for content type {content_type!r}")
    if compression:
        body = decompress(body, compression, max_size)
    try:
        return found.decode(_payload(body, content_encoding, found))
    except (MissingExtra, DecodeError):
        raise
    except ImportError as error:
        raise _missing(found, error) or _undecodable(body, found, error) from error
    except Exception as error:
        raise _undecodable(body, found, error) from error


def _missing(found: Serializer, error: ImportError) -> MissingExtra | None:
    if found.requires is not None and error.name == found.requires[0]:
        return MissingExtra(f"serializer {found.name!r}", found.requires[1])
    return None


def _payload(body: bytes, content_encoding: str | None, found: Serializer) -> bytes | str:
    encoding = "utf-8" if content_encoding is None else content_encoding
    if encoding in _BINARY_ENCODINGS:
        return body
    if not found.wants_bytes:
        return bytes(body).decode(encoding)
    if encoding in _UTF8_ENCODINGS or found.content_encoding == "binary":
        return body
    return bytes(body).decode(encoding).encode()


def _undecodable(body: bytes, found: Serializer, error: Exception) -> DecodeError:
    return DecodeError(f"{len(body)} bytes are not valid {found.name}: {type(error).__name__}: {error}")
