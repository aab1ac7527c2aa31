"""The states of a task: what they are called, which of them are final, and which of two is the later one."""

from __future__ import annotations

PENDING = "PENDING"
"""Nothing is known of the task: it waits, or was never sent."""
RECEIVED = "RECEIVED"
"""A worker has it; told by events only."""
STARTED = "STARTED"
"""It runs; stored with ``track_started``."""
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"
"""It was revoked, ended, or it expired."""
REJECTED = "REJECTED"
"""It was refused, see ``Reject``; told by events only."""
RETRY = "RETRY"
"""It is to be run again."""
IGNORED = "IGNORED"

READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
"""Nothing comes after them."""
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
"""The result is an exception."""
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
"""``get`` raises that exception."""
ALL_STATES = frozenset({PENDING, RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED})

PRECEDENCE = (SUCCESS, FAILURE, None, REVOKED, STARTED, RECEIVED, REJECTED, RETRY, PENDING)
"""States from the latest to the earliest; None stands for every other one."""
_PLACES = {state: place for place, state in enumerate(PRECEDENCE)}


def precedence(state: str | None) -> int:
    """Where a state stands in ``PRECEDENCE``: the smaller, the later."""
    return _PLACES.get(state, _PLACES[None])


class state(str):
    """A state that is greater than those which come before it: ``state("STARTED") > state("PENDING")``."""

    __slots__ = ()

    def __gt__(self, other: str) -> bool:
        return precedence(self) < precedence(other)

    def __ge__(self, other: str) -> bool:
        return precedence(self) <= precedence(other)

    def __lt__(self, other: str) -> bool:
        return precedence(self) > precedence(other)

    def __le__(self, other: str) -> bool:
        return precedence(self) >= precedence(other)
