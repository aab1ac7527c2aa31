"""What a driver's error means: try again, tell the operator, or give up."""

from __future__ import annotations

from typing import Any

from umbel.errors import OperationalError, UmbelError

_PASSING_STATES = ("08", "40", "53", "55", "57", "58", "25P03")
"""SQLSTATE classes of PostgreSQL: connection, rollback, resources, locks, operator and system errors."""
_CONFLICT_STATES = frozenset({"40001", "40P01", "55P03"})
_REFUSING_MYSQL = frozenset({1044, 1045, 1049, 1142, 1143, 1153})
"""Access denied, unknown database, packet too large: errors that PyMySQL calls operational."""
_CONFLICT_MYSQL = frozenset({1020, 1205, 1213})
_FULL_MYSQL = frozenset({1021, 1114})


class Conflict(OperationalError):
    """Two transactions got in each other's way and this one was undone; repeated at once it will most likely pass."""


def fault_of(kind: str, shown: str, error: Exception, refusal: type[UmbelError]) -> UmbelError:
    """The error to raise for ``error`` of the driver; ``refusal`` where trying again will not help."""
    original: Any = getattr(error, "orig", None) or error
    text = " ".join(str(original).split()) or type(original).__name__
    name = type(original).__name__
    if kind == "sqlite":
        return _sqlite_fault(shown, name, text, refusal)
    if kind == "postgresql":
        state = getattr(original, "sqlstate", None)
        if state in _CONFLICT_STATES:
            return Conflict(f"{shown}: {text}")
        passing = state.startswith(_PASSING_STATES) if state else name not in ("ProgrammingError", "DataError")
        return OperationalError(f"{shown}: {text}") if passing else refusal(f"{shown} refused: {text}")
    code = original.args[0] if getattr(original, "args", ()) else 0
    if code in _CONFLICT_MYSQL:
        return Conflict(f"{shown}: {text}")
    passing = code in _FULL_MYSQL or (
        name in ("OperationalError", "InterfaceError", "InternalError") and code not in _REFUSING_MYSQL
    )
    if passing or isinstance(original, OSError):
        return OperationalError(f"{shown}: {text}")
    return refusal(f"{shown} refused: {text}")


def _sqlite_fault(shown: str, name: str, text: str, refusal: type[UmbelError]) -> UmbelError:
    if "full" in text:
        return OperationalError(f"{shown}: the disk or the quota of the file is full; nothing was written ({text})")
    if "unable to open" in text:
        return OperationalError(f"{shown}: the file cannot be opened; does its directory exist, writable? ({text})")
    if "locked" in text or "busy" in text:
        return Conflict(f"{shown}: {text}")
    passing = name == "OperationalError" and not any(word in text for word in ("syntax", "no such", "has no column"))
    return OperationalError(f"{shown}: {text}") if passing else refusal(f"{shown} refused: {text}")
