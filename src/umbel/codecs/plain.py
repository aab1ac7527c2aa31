"""Serializers that need no extension of the format: pickle, YAML and MessagePack.

- pickle: protocol 4, or what the environment variable ``PICKLE_PROTOCOL`` says. Reading runs whatever the
  sender wants, so it is refused unless accepted explicitly. Celery's own exceptions inside become Umbel's.
- YAML: the safe subset, written and read by libyaml where PyYAML has it.
- MessagePack: text and binary are told apart. Moments with a time zone use the timestamp extension; dates,
  naive moments, decimals, UUIDs and enumerations arrive as text or plain values, sets as lists.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from typing import Any, cast

import msgspec

# -- pickle ----------------------------------------------------------------------------------------


@functools.cache
def _pickle_dumps() -> Callable[[Any], bytes]:
    import pickle

    protocol = int(os.environ.get("PICKLE_PROTOCOL", "4"))
    return lambda value: pickle.dumps(value, protocol)


def encode_pickle(value: Any) -> bytes:
    return _pickle_dumps()(value)


@functools.cache
def _translating_unpickler() -> Callable[[io.BytesIO], Any]:
    import pickle

    from umbel.codecs.exceptions import wire_class

    class TranslatingUnpickler(pickle.Unpickler):
        """Finds Umbel's classes under the names of Celery's, which need not be installed."""

        def find_class(self, module_name: str, global_name: str, /) -> Any:
            return wire_class(module_name, global_name) or super().find_class(module_name, global_name)

    return TranslatingUnpickler


def decode_pickle(body: bytes) -> Any:
    return _translating_unpickler()(io.BytesIO(body)).load()


# -- YAML ------------------------------------------------------------------------------------------


@functools.cache
def _yaml() -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    import yaml

    dumper_base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Dumper(dumper_base):
        """Writes subclasses of plain types as the plain type."""

    def as_plain(cls: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda dumper, value: dumper.represent_data(cls(value))

    for cls in (dict, list, int, float):
        Dumper.add_multi_representer(cls, as_plain(cls))
    Dumper.add_multi_representer(tuple, as_plain(list))
    Dumper.add_multi_representer(str, as_plain(_exact_str))

    def dump(value: Any) -> str:
        return yaml.dump(value, Dumper=Dumper)

    def load(text: str) -> Any:
        return yaml.load(text, Loader=loader)

    return dump, load


def _exact_str(value: str) -> str:
    return str.__str__(value)


def encode_yaml(value: Any) -> str:
    return _yaml()[0](value)


def decode_yaml(text: str) -> Any:
    return _yaml()[1](text)


# -- MessagePack -----------------------------------------------------------------------------------


def _write_other(value: Any) -> Any:
    own = getattr(cast("type[Any]", type(value)), "__json__", None)
    if own is not None:
        return own(value)
    if isinstance(value, str):
        return _exact_str(value)
    for cls in (int, float):
        if isinstance(value, cls):
            return cls(value)
    raise TypeError(f"{type(value).__qualname__} has no MessagePack form")


encode_msgpack = msgspec.msgpack.Encoder(enc_hook=_write_other).encode
decode_msgpack = msgspec.msgpack.Decoder().decode
