"""Revocations: demands that tasks are not run, and the contract of the stores that keep them.

A revocation is a record with a time to live in the broker, or in the result store where the broker can keep nothing.
Workers read what is new there about once a second, and all of it when they start; what is broadcast besides only
makes them read it sooner.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from signal import Signals
from typing import Any, cast

import msgspec
from msgspec import Struct

from umbel.errors import InvalidTaskError
from umbel.message import new_id

logger = logging.getLogger(__name__)

DEFAULT_SIGNAL = "SIGTERM"

RECORD_SIZE = 1000
"""Tasks that one record names, at most."""


class Revocation(Struct, frozen=True, omit_defaults=True):
    """One record: these tasks are not to be run any more.

    ``key``: tells it from all others. ``signal``: what ends those that run, a name such as SIGTERM; "": they are left
    alone. ``destination``: node names of the workers that it concerns; empty: all.
    """

    key: str
    task_ids: tuple[str, ...]
    signal: str = ""
    destination: tuple[str, ...] = ()

    def concerns(self, node: str) -> bool:
        """Whether the worker of this node name is meant."""
        return not self.destination or node in self.destination


class Noted(Struct, frozen=True):
    """A record that was found, and for how many ``seconds`` more it holds."""

    revocation: Revocation
    seconds: float


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Revocation)


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


def records_of(task_ids: Sequence[str], signal: str = "", destination: Sequence[str] | None = None) -> list[Revocation]:
    """Records of a usual size that name all these tasks, each once."""
    ids = tuple(dict.fromkeys(task_ids))
    nodes = tuple(destination or ())
    parts = [ids[at : at + RECORD_SIZE] for at in range(0, len(ids), RECORD_SIZE)]
    return [Revocation(new_id(), part, signal, nodes) for part in parts]


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
