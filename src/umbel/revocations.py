"""Revocations: demands that tasks are not run, and the contract of the stores that keep them.

Tasks are named by id, or by a stamp that they carry (``umbel.canvas.stamping``).
A revocation is a record with a time to live in the broker, or in the result store where the broker can keep nothing.
Workers read what is new there about once a second, and all of it when they start; what is broadcast besides only
makes them read it sooner.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from signal import Signals
from typing import Any, cast

import msgspec
from msgspec import Struct

from umbel.errors import InvalidTaskError
from umbel.message import Message, new_id

logger = logging.getLogger(__name__)

DEFAULT_SIGNAL = "SIGTERM"

RECORD_SIZE = 1000
"""Tasks or stamps that one record names, at most."""

Stamp = tuple[str, str]
"""The name of a stamp, and one value of it as JSON."""

Key = str | Stamp
"""What names tasks: the id of one, or a stamp."""


class Revocation(Struct, frozen=True, omit_defaults=True):
    """One record: these tasks, and those that have one of these stamps, are not to be run any more.

    ``key``: tells it from all others. ``signal``: what ends those that run, a name such as SIGTERM; "": they are left
    alone. ``destination``: node names of the workers that it concerns; empty: all.
    """

    key: str
    task_ids: tuple[str, ...]
    signal: str = ""
    destination: tuple[str, ...] = ()
    stamps: tuple[Stamp, ...] = ()

    @property
    def names(self) -> tuple[Key, ...]:
        """All that it names."""
        return (*self.task_ids, *self.stamps)

    def concerns(self, node: str) -> bool:
        """Whether the worker of this node name is meant."""
        return not self.destination or node in self.destination


class Noted(Struct, frozen=True):
    """A record that was found, and for how many ``seconds`` more it holds."""

    revocation: Revocation
    seconds: float


class _Stamped(Struct):
    """The headers of a message that are its stamps."""

    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None


_encoder = msgspec.json.Encoder()
_ordered = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Revocation)
_stamped_decoder = msgspec.json.Decoder(_Stamped)


class Revocations(ABC):
    """Where records are kept. Safe for threads. Its methods raise OperationalError when the system cannot be reached,
    BrokerError or BackendError when it refuses."""

    @abstractmethod
    def note(self, records: Sequence[Revocation], seconds: float) -> None:
        """Keep ``records`` for so many seconds, durably. Removes those whose time is over."""

    @abstractmethod
    def since(self, mark: float) -> tuple[float, list[Noted]]:
        """What was noted since a call that returned ``mark`` (0: all), and the mark for the next call.

        Nothing that holds is left out; some of it may come again.
        """


def encode_record(record: Revocation) -> bytes:
    """The form in which stores keep it: JSON."""
    return _encoder.encode(record)


def read_records(stored: Iterable[tuple[bytes, float]]) -> list[Noted]:
    """Records as they were stored, each with the seconds for which it still holds. Those that cannot be read are left
    out, with a warning: they must not keep all tasks from being run."""
    found: list[Noted] = []
    for record, seconds in stored:
        try:
            found.append(Noted(_decoder.decode(record), seconds))
        except msgspec.MsgspecError as error:
            logger.warning("a revocation cannot be read and is not heeded: %s", error)
    return found


def records_of(names: Iterable[Key], signal: str = "", destination: Sequence[str] | None = None) -> list[Revocation]:
    """Records of a usual size with all these names, each once."""
    every = tuple(dict.fromkeys(names))
    nodes = tuple(destination or ())
    found: list[Revocation] = []
    for at in range(0, len(every), RECORD_SIZE):
        part = every[at : at + RECORD_SIZE]
        ids = tuple(name for name in part if isinstance(name, str))
        stamps = tuple(name for name in part if not isinstance(name, str))
        found.append(Revocation(new_id(), ids, signal, nodes, stamps))
    return found


def stamps_in(headers: Any) -> list[Stamp]:
    """The stamps that a caller gave: values by name, each one or several, or texts ``"name=value"``.

    Raises InvalidTaskError for anything else, and for values that have no JSON form.
    """
    pairs: list[tuple[Any, Any]] = []
    if isinstance(headers, Mapping):
        pairs = list(cast("Mapping[Any, Any]", headers).items())
    elif isinstance(headers, (list, tuple, set, frozenset)):
        for each in cast("Iterable[Any]", headers):
            name, given, value = str(each).partition("=")
            if not given:
                raise InvalidTaskError(f"a stamp is given as name=value, not as {each!r}")
            pairs.append((name, value))
    else:
        raise InvalidTaskError(f"stamps are given as a dict, or as a list of name=value; not as {headers!r}")
    found: list[Stamp] = []
    for name, values in pairs:
        if not isinstance(name, str) or not name:
            raise InvalidTaskError(f"a stamp has a name, a text; not {name!r}")
        found += _values(name, values)
    return found


def stamps_of(message: Message) -> list[Stamp]:
    """The stamps that a message carries."""
    try:
        headers = _stamped_decoder.decode(message.headers)
    except msgspec.MsgspecError:
        return []
    stamps = headers.stamps or {}
    return [each for name in headers.stamped_headers or () if name in stamps for each in _values(name, stamps[name])]


def _values(name: str, values: Any) -> list[Stamp]:
    several = isinstance(values, (list, tuple, set, frozenset))
    given = cast("Iterable[Any]", values) if several else (values,)
    try:
        return [(name, _ordered.encode(value).decode()) for value in given]
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTaskError(f"the stamp {name} has a value that is no JSON: {error}") from error


def ids_of(task_id: Any) -> list[str]:
    """The ids that a caller gave: one, a result, or several of these. Raises InvalidTaskError for anything else."""
    many = isinstance(task_id, (list, tuple, set, frozenset))
    several: list[Any] = list(cast("Iterable[Any]", task_id)) if many else [task_id]
    ids = [each if isinstance(each, str) else getattr(each, "id", None) for each in several]
    for each, given in zip(ids, several, strict=True):
        if not isinstance(each, str) or not each:
            raise InvalidTaskError(f"a task is revoked by its id, a text; not by {given!r}")
    return [str(each) for each in ids]


def signal_name(given: Any) -> str:
    """The name of a signal given as ``"SIGKILL"``, ``"KILL"`` or 9; SIGTERM for None.

    Raises InvalidTaskError for one that this system does not have.
    """
    if given is None:
        return DEFAULT_SIGNAL
    try:
        if isinstance(given, int):
            return Signals(given).name
        name = str(given).upper()
        return Signals[name if name.startswith("SIG") else f"SIG{name}"].name
    except (KeyError, ValueError):
        raise InvalidTaskError(f"there is no signal {given!r}; names are like SIGTERM or KILL") from None
