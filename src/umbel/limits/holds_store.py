"""The contract of what keeps holds (who runs under a concurrency limit) and claims (which call has a unique key).

Everything is synchronous, works on batches and goes by the clock of the system. Every method raises OperationalError
when the system cannot be reached and another UmbelError when it refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

ANY = "*"
"""Instead of whom a key may be claimed: of anybody."""


class Wish(NamedTuple):
    """A task that is to run under the limit ``key``. ``token`` names this hold, ``task_id`` the task in the line of
    those that wait. ``able`` False: it cannot run now anyway, and only asks for its place."""

    key: str
    limit: int
    token: str
    task_id: str
    able: bool = True


class Hold(NamedTuple):
    """One place under a limit."""

    key: str
    token: str


class Claim(NamedTuple):
    """A unique key for a task, for ``ttl`` seconds. ``instead_of``: the id of the task from which the key may be
    taken, ``ANY``, or "" for nobody."""

    key: str
    task_id: str
    ttl: float
    instead_of: str = ""


class HoldStore(Protocol):
    """Safe for threads."""

    def acquire(self, wishes: Sequence[Wish], ttl: float) -> list[float]:
        """For each wish 0.0 where the hold was given, for ``ttl`` seconds; otherwise after how many seconds to ask
        again, by the place in the line of those that wait."""
        ...

    def renew(self, holds: Sequence[Hold], ttl: float) -> list[Hold]:
        """Keep holds for ``ttl`` seconds from now; those that are gone already are returned."""
        ...

    def restore(self, holds: Sequence[Hold], ttl: float) -> None:
        """Put back holds that were lost although their tasks run, over the limit if need be."""
        ...

    def release(self, ended: Sequence[tuple[Hold, float]]) -> None:
        """Give up holds; each with the seconds for which it was used, by which the waiting ones are told to come."""
        ...

    def claim(self, claims: Sequence[Claim]) -> list[str]:
        """The id of the task that has each key now: that of the claim where it was free, or its own already."""
        ...

    def unclaim(self, claims: Sequence[tuple[str, str]]) -> None:
        """Free keys (first) where these tasks (second, by id) have them."""
        ...

    def tidy(self) -> None:
        """Remove what has run out and would stay otherwise."""
        ...
