"""``memory://``: results kept for the threads of one process, for tests and notebooks.

``memory://name`` is one store, shared by all backends of that name in the process; with a ``memory://name`` broker
results are stored in the same step in which a task is settled. Encoding is that of the key–value stores.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from msgspec import Struct

from umbel.backends.base import READY_STATES, Backend, Features, Meta, Options, Part, Result, expiry_of
from umbel.backends.caller import Caller
from umbel.backends.document import decode_document, encode_document
from umbel.clock import monotonic
from umbel.codecs import accept_set, dumps, loads

_CLOSED_KEPT = 10_000
"""Finished chords that are remembered, so that a late message cannot finish them again."""


class _Stored(Struct, eq=False):
    state: str
    payload: bytes
    ends: float | None


class _Chord(Struct, eq=False):
    """The parts of a chord by index and member; ``claimant``: who finishes it."""

    parts: dict[tuple[int, str], bytes] = {}
    added: int = 0
    claimant: str = ""


class Results:
    """Everything under one ``memory://`` name, in this process. Its methods take the lock themselves."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._stored: dict[str, _Stored] = {}
        self._watchers: dict[str, list[Callable[[bytes], None]]] = {}
        self.groups: dict[str, bytes] = {}
        self._chords: dict[str, _Chord] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()

    def put(self, results: Sequence[Result]) -> None:
        with self.changed:
            for result in results:
                self._put(result)
            self.changed.notify_all()

    def _put(self, result: Result) -> None:
        before = self.find(result.task_id)
        if before is not None and before.state == "SUCCESS":
            return
        ends = monotonic() + result.expires if result.expires else None
        self._stored[result.task_id] = _Stored(result.state, result.payload, ends)
        if result.state in READY_STATES:
            for watcher in self._watchers.pop(result.task_id, ()):
                watcher(result.payload)

    def find(self, task_id: str) -> _Stored | None:
        """What is stored and not expired. The caller holds ``changed``."""
        stored = self._stored.get(task_id)
        if stored is not None and stored.ends is not None and stored.ends <= monotonic():
            del self._stored[task_id]
            return None
        return stored

    def remove(self, task_ids: Sequence[str]) -> None:
        with self.changed:
            for task_id in task_ids:
                self._stored.pop(task_id, None)

    def remove_expired(self) -> int:
        with self.changed:
            before = len(self._stored)
            for task_id in list(self._stored):
                self.find(task_id)
            return before - len(self._stored)

    def add_parts(self, parts: Sequence[Part], once: bool) -> list[Part]:
        """Those with which their chord is complete; ``once``: only when they were not there before."""
        with self.changed:
            return [part for part in parts if self._add_part(part, once)]

    def _add_part(self, part: Part, once: bool) -> bool:
        if part.chord in self._closed:
            return False
        chord = self._chords.setdefault(part.chord, _Chord())
        place = (part.index, part.member)
        if place not in chord.parts:
            chord.parts[place] = part.payload
            chord.added += part.added
        elif once:
            return False
        return len(chord.parts) >= part.size + chord.added

    def claim_chord(self, chord: str, claimant: str) -> bool:
        with self.changed:
            if chord in self._closed:
                return False
            known = self._chords.setdefault(chord, _Chord())
            known.claimant = known.claimant or claimant
            return known.claimant == claimant

    def chord_parts(self, chord: str) -> list[bytes]:
        with self.changed:
            known = self._chords.get(chord)
            return [payload for _, payload in sorted(known.parts.items())] if known is not None else []

    def close_chords(self, chords: Sequence[str]) -> None:
        with self.changed:
            for chord in chords:
                self._chords.pop(chord, None)
                self.groups.pop(chord, None)
                self._closed[chord] = None
            while len(self._closed) > _CLOSED_KEPT:
                self._closed.popitem(last=False)

    def watch(self, task_id: str, watcher: Callable[[bytes], None]) -> None:
        """Call ``watcher`` once with the payload when the task is ready; it must not block."""
        with self.changed:
            stored = self.find(task_id)
            if stored is not None and stored.state in READY_STATES:
                watcher(stored.payload)
            else:
                self._watchers.setdefault(task_id, []).append(watcher)

    def unwatch(self, task_id: str, watcher: Callable[[bytes], None]) -> None:
        with self.changed:
            watchers = self._watchers.get(task_id, [])
            if watcher in watchers:
                watchers.remove(watcher)
            if not watchers:
                self._watchers.pop(task_id, None)


_results: dict[tuple[int, str], Results] = {}


def results_named(name: str) -> Results:
    """The store that all backends of this name share; a forked child begins with empty ones."""
    key = (os.getpid(), name)
    return _results.get(key) or _results.setdefault(key, Results())


def drop_results(name: str) -> None:
    """Forget the store of this name with all that is in it."""
    _results.pop((os.getpid(), name), None)


class MemoryBackend(Backend):
    """See the module's docstring."""

    features = Features(shared=False, chords=True, counts_with_celery=True)

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__(url, options)
        self.name = url.partition("://")[2].strip("/")
        self._caller = Caller("umbel-memory-results")

    @property
    def _store(self) -> Results:
        return results_named(self.name)

    def encode(self, meta: Meta, *, reply_to: str = "", correlation_id: str = "") -> Result:
        payload = encode_document(meta, self.options)
        return Result(meta.task_id, meta.status, payload, expiry_of(meta, self.options), reply_to, correlation_id)

    def store(self, results: Sequence[Result]) -> None:
        self._store.put(results)

    def get(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        with self._store.changed:
            found = {task_id: self._store.find(task_id) for task_id in task_ids}
        return {task_id: decode_document(s.payload, self.options) for task_id, s in found.items() if s is not None}

    def wait(self, task_ids: Collection[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        store = self._store
        seen: dict[str, _Stored | None] = dict.fromkeys(task_ids)
        while seen:
            with store.changed:
                news = _news(store, seen)
                while not news:
                    rest = None if deadline is None else deadline - time.monotonic()
                    if rest is not None and rest <= 0:
                        return False
                    store.changed.wait(rest)
                    news = _news(store, seen)
            for task_id, stored in news.items():
                if stored.state in READY_STATES:
                    del seen[task_id]
                else:
                    seen[task_id] = stored
                on_meta(decode_document(stored.payload, self.options))
        return True

    def subscribe(self, task_id: str, on_meta: Callable[[Meta], object]) -> Callable[[], None]:
        store, caller = self._store, self._caller

        def ready(payload: bytes) -> None:
            caller.call(lambda: on_meta(decode_document(payload, self.options)))

        store.watch(task_id, ready)
        return lambda: store.unwatch(task_id, ready)

    def forget(self, task_ids: Sequence[str]) -> None:
        self._store.remove(task_ids)

    def save_group(self, group_id: str, document: Any) -> None:
        encoded = dumps(document, "json").body
        with self._store.changed:
            self._store.groups[group_id] = encoded

    def restore_group(self, group_id: str) -> Any | None:
        with self._store.changed:
            encoded = self._store.groups.get(group_id)
        return None if encoded is None else loads(encoded, "application/json", "utf-8", accept_set(["json"]))

    def delete_group(self, group_id: str) -> None:
        with self._store.changed:
            self._store.groups.pop(group_id, None)

    def begin_chord(self, chord: str, size: int) -> None:
        """Nothing: no worker of Celery reads this store."""

    def store_parts(self, parts: Sequence[Part]) -> list[Part]:
        return self._store.add_parts(parts, once=False)

    def claim_chord(self, chord: str, claimant: str) -> bool:
        return self._store.claim_chord(chord, claimant)

    def chord_parts(self, chord: str) -> list[bytes]:
        return self._store.chord_parts(chord)

    def close_chords(self, chords: Sequence[str]) -> None:
        self._store.close_chords(chords)

    def cleanup(self) -> int:
        return self._store.remove_expired()

    def close(self) -> None:
        """End the thread that serves subscriptions; the store stays."""
        self._caller.close()

    def after_fork(self) -> None:
        self._caller = Caller("umbel-memory-results")
        for key in [key for key in _results if key[0] != os.getpid()]:
            _results.pop(key, None)


def _news(store: Results, seen: dict[str, _Stored | None]) -> dict[str, _Stored]:
    current = {task_id: store.find(task_id) for task_id in seen}
    return {task_id: s for task_id, s in current.items() if s is not None and s is not seen[task_id]}
