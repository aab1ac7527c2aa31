"""Finding the driver of a URL: a table for those that come with Umbel, entry points for everybody else's.

The table is asked first so that opening a built-in driver imports nothing but the driver.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from umbel.errors import ConfigurationError, MissingExtra
from umbel.urls import normalise, redact, scheme_of


class Builtin(Struct, frozen=True):
    """A driver that comes with Umbel. ``extra`` installs its library, "" where it needs none."""

    target: str
    extra: str = ""


def open_driver(kind: str, group: str, builtin: Mapping[str, Builtin], url: str, options: Any) -> Any:
    """An object of the driver for ``url``.

    ``kind`` names it in errors (``"broker"``), ``group`` is its entry-point group. Raises ConfigurationError for an
    unknown scheme, MissingExtra when the driver's library is not installed.
    """
    url = normalise(url)
    with _naming_extra(kind, builtin, url):
        return driver_class(kind, group, builtin, url)(url, options)


def driver_class(kind: str, group: str, builtin: Mapping[str, Builtin], url: str) -> Any:
    """The class of the driver for ``url``, a normalised one. Raises as ``open_driver``."""
    known = _builtin_of(builtin, url)
    if known is None:
        return _third_party(kind, group, builtin, scheme_of(url), url)
    with _naming_extra(kind, builtin, url):
        return _load(known.target)


def _builtin_of(builtin: Mapping[str, Builtin], url: str) -> Builtin | None:
    scheme = scheme_of(url)
    return builtin.get(scheme) or builtin.get(scheme.partition("+")[0])


@contextmanager
def _naming_extra(kind: str, builtin: Mapping[str, Builtin], url: str) -> Generator[None]:
    """Raises MissingExtra where the library of a driver that comes with Umbel cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        known = _builtin_of(builtin, url)
        if known is None or not known.extra or (error.name or "").partition(".")[0] == "umbel":
            raise
        raise MissingExtra(f"the {kind} {scheme_of(url)}:// ({error.name} is not installed)", known.extra) from error


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _third_party(kind: str, group: str, builtin: Mapping[str, Builtin], scheme: str, url: str) -> Any:
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=group)}
    entry = found.get(scheme) or found.get(scheme.partition("+")[0])
    if entry is not None:
        return entry.load()
    names = sorted({*builtin, *found})
    close = difflib.get_close_matches(scheme, names, n=1)
    hint = f"did you mean {close[0]}://? " if close else ""
    raise ConfigurationError(f"no {kind} for {redact(url)!r}: {hint}known are {', '.join(f'{n}://' for n in names)}")
