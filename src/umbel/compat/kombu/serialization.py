"""``kombu.serialization``: serializers of a project's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from umbel.codecs import register_serializer

__all__ = ["register"]


def register(
    name: str,
    encoder: Callable[[Any], Any],
    decoder: Callable[[Any], Any],
    content_type: str,
    content_encoding: str = "utf-8",
) -> None:
    """Add a serializer. Its content has to be named by ``accept_content`` before workers read it."""
    register_serializer(name, encoder, decoder, content_type, content_encoding, safe=False)
