"""Holds and claims of a ``memory://`` store: for the threads of one process."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from umbel.clock import monotonic
from umbel.limits import holds_line as line
from umbel.limits.holds_store import ANY, Claim, Hold, HoldStore, Wish

if TYPE_CHECKING:
    from umbel.backends.memory import MemoryBackend
    from umbel.brokers.memory import MemoryBroker


class _Limit(Struct, eq=False):
    """``held``: token → end; ``waiting``: task id → when it is to come, in the order of the line."""

    held: dict[str, float] = field(default_factory=dict[str, float])
    waiting: dict[str, float] = field(default_factory=dict[str, float])
    mean: float | None = None
    last: float = 0.0


class _State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.limits: dict[str, _Limit] = {}
        self.claims: dict[str, tuple[str, float]] = {}


_states: dict[tuple[int, str], _State] = {}


def open_store(driver: MemoryBroker | MemoryBackend, prefix: str, timeout: float) -> HoldStore:
    """The store of all drivers of this name in the process."""
    return MemoryHolds(driver.name)


class MemoryHolds:
    """See ``HoldStore``; one store for all of the same name in a process."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def _state(self) -> _State:
        return _states.setdefault((os.getpid(), self._name), _State())

    # -- holds --

    def acquire(self, wishes: Sequence[Wish], ttl: float) -> list[float]:
        state = self._state
        with state.lock:
            return [self._acquire(state.limits.setdefault(wish.key, _Limit()), wish, ttl) for wish in wishes]

    def _acquire(self, limit: _Limit, wish: Wish, ttl: float) -> float:
        now = monotonic()
        limit.held = {token: end for token, end in limit.held.items() if end > now}
        limit.waiting = {id: due for id, due in limit.waiting.items() if due > now - line.FORGOTTEN}
        duration = line.reckoned(limit.mean, now - limit.last, len(limit.held))
        soon = now + line.in_front(duration)
        known = wish.task_id in limit.waiting
        expected = [] if known else [due for due in limit.waiting.values() if due <= soon]
        kept = len(expected) if min(expected, default=now) > now - line.LATE else 0
        if wish.able and wish.limit - len(limit.held) > kept:
            limit.held[wish.token] = now + ttl
            limit.waiting.pop(wish.task_id, None)
            limit.last = now
            return 0.0
        rank = list(limit.waiting).index(wish.task_id) if known else len(limit.waiting)
        pause = line.pause(rank, wish.limit, duration)
        limit.waiting[wish.task_id] = now + pause
        return pause

    def renew(self, holds: Sequence[Hold], ttl: float) -> list[Hold]:
        state, end = self._state, monotonic() + ttl
        lost: list[Hold] = []
        with state.lock:
            for hold in holds:
                limit = state.limits.get(hold.key)
                if limit is None or hold.token not in limit.held:
                    lost.append(hold)
                else:
                    limit.held[hold.token] = end
        return lost

    def restore(self, holds: Sequence[Hold], ttl: float) -> None:
        state, end = self._state, monotonic() + ttl
        with state.lock:
            for hold in holds:
                state.limits.setdefault(hold.key, _Limit()).held[hold.token] = end

    def release(self, ended: Sequence[tuple[Hold, float]]) -> None:
        state = self._state
        with state.lock:
            for hold, duration in ended:
                limit = state.limits.get(hold.key)
                if limit is not None and limit.held.pop(hold.token, None) is not None:
                    limit.mean = line.mean_with(limit.mean, duration)

    # -- claims --

    def claim(self, claims: Sequence[Claim]) -> list[str]:
        state, now = self._state, monotonic()
        owners: list[str] = []
        with state.lock:
            for claim in claims:
                owner, end = state.claims.get(claim.key, ("", 0.0))
                if not owner or end <= now or claim.instead_of in (owner, ANY):
                    owner = claim.task_id
                if owner == claim.task_id:
                    state.claims[claim.key] = (owner, now + claim.ttl)
                owners.append(owner)
        return owners

    def unclaim(self, claims: Sequence[tuple[str, str]]) -> None:
        state = self._state
        with state.lock:
            for key, task_id in claims:
                if state.claims.get(key, ("", 0.0))[0] == task_id:
                    del state.claims[key]

    # -- life --

    def tidy(self) -> None:
        state, now = self._state, monotonic()
        with state.lock:
            state.claims = {key: claim for key, claim in state.claims.items() if claim[1] > now}
            for key, limit in list(state.limits.items()):
                if not limit.waiting and not limit.held and limit.last < now - line.KEPT:
                    del state.limits[key]
