"""``kombu.utils.json``: JSON as task messages have it, with dates, decimals, UUIDs and types of a project's own."""

from __future__ import annotations

from typing import Any

from umbel.codecs.typed_json import decode, encode, register_type

__all__ = ["dumps", "loads", "register_type"]


def dumps(value: Any) -> str:
    """Raises TypeError for what JSON cannot express."""
    return encode(value).decode()


def loads(text: str | bytes) -> Any:
    return decode(text.encode() if isinstance(text, str) else text)
