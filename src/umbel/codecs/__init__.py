"""Turns values into bytes and back: serializers, compression, exceptions, results, display strings.

Names and formats are those of Celery's wire protocol, so either side of a mixed fleet reads what the other
wrote. Nothing here knows of brokers, messages or settings; libraries are imported when first needed.
"""

from umbel.codecs.compression import compress, decompress, register_compression
from umbel.codecs.registry import (
    Encoded,
    Serializer,
    accept_set,
    check_accepted,
    dumps,
    loads,
    register_serializer,
    serializer,
)

__all__ = [
    "Encoded",
    "Serializer",
    "accept_set",
    "check_accepted",
    "compress",
    "decompress",
    "dumps",
    "loads",
    "register_compression",
    "register_serializer",
    "serializer",
]
