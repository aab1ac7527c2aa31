"""Revocations kept in a ``memory://`` store."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.brokers.memory_store import Store
from umbel.message import now
from umbel.revocations import Noted, Revocation, Revocations


class MemoryRevocations(Revocations):
    """See :class:`Revocations`. Marks count the records."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, records: Sequence[Revocation], seconds: float) -> None:
        store, moment = self._store, now()
        with store.changed:
            store.revocations = [kept for kept in store.revocations if kept[1] > moment]
            for record in records:
                store.noted += 1
                store.revocations.append((store.noted, moment + seconds, record))

    def since(self, mark: float) -> tuple[float, list[Noted]]:
        moment = now()
        with self._store.changed:
            found = [
                Noted(record, ends - moment)
                for number, ends, record in self._store.revocations
                if number > mark and ends > moment
            ]
            return self._store.noted, found
