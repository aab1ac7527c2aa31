"""Results in Redis, under Celery's keys and in its formats; whoever waits is told by pub/sub.

A result is SET with its time to live and published on a channel of the same name, in one script that never lets
another state replace a SUCCESS. Where the broker is the same Redis, settlements do this in their own step
(``RedisBroker.stores_results_of``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from umbel.backends.base import Backend, Features, Meta, Options, Part, Result, expiry_of
from umbel.backends.document import decode_document
from umbel.backends.redis_listening import SharedListener
from umbel.backends.redis_results import (
    GROUP,
    META,
    chord_key,
    encode_result,
    milliseconds_of,
    part_arguments,
    prefix_of,
)
from umbel.backends.redis_waiting import Waiting
from umbel.brokers.redis.keys import Keys
from umbel.brokers.redis.link import Links, Script
from umbel.brokers.redis.revocations import RedisRevocations
from umbel.brokers.redis.scripts import CHORD_PART, GUARDED_STORE
from umbel.brokers.redis.server import server_of
from umbel.codecs import dumps, loads, serializer
from umbel.codecs.results import unwrap
from umbel.revocations import Revocations

_STORE = Script(
    GUARDED_STORE
    + """
-- n * (key, payload, milliseconds, guarded)
for at = 1, #ARGV, 4 do store(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]) end
return 1
"""
)

_PARTS = Script(
    CHORD_PART
    + """
-- n * (chord, mark, index, payload, size, added, milliseconds). Returns 1 for each with which its chord is complete.
local complete = {}
for at = 1, #ARGV, 7 do
  local size, added, kept = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local done = add_part(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], size, added, kept, false)
  complete[#complete + 1] = done and 1 or 0
end
return complete
"""
)
_CLAIM = Script(
    CHORD_PART
    + """
-- chord, claimant
local kept = redis.call('PTTL', ARGV[1] .. '.j')
return claim_chord(ARGV[1], ARGV[2], kept > 0 and tostring(kept) or '0') and 1 or 0
"""
)
_CLOSE = Script("""
-- seconds for which a finished chord is remembered, chords
for at = 2, #ARGV do
  local base = ARGV[at]
  redis.call('SET', base .. '.c', 'done', 'EX', ARGV[1])
  redis.call('DEL', base, base .. '.j', base .. '.d', base .. '.s', base .. '.t')
end
return 1
""")
_REMEMBERED = 300

_CHUNK = 500


class RedisBackend(Backend):
    """See the module's docstring."""

    features = Features(chords=True, counts_with_celery=True)

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__(url, options)
        self.server = server_of(
            url,
            connect_timeout=self.options.connect_timeout,
            ssl=self.options.ssl,
            transport=self.options.transport,
        )
        self._prefix = prefix_of(self.options.key_prefix)
        self._metas = self._prefix + META
        self.links = Links(self.server)
        self._waiting = Waiting(self.server, self.options.timeout, self._read)
        self._listener = SharedListener(self.server, self._read)

    def encode(self, meta: Meta, *, reply_to: str = "", correlation_id: str = "") -> Result:
        payload = encode_result(meta, self.options)
        return Result(meta.task_id, meta.status, payload, expiry_of(meta, self.options), reply_to, correlation_id)

    def _read(self, payload: bytes) -> Meta:
        return decode_document(payload, self.options)

    # -- storing and reading --

    def store(self, results: Sequence[Result]) -> None:
        refused = self._already_successful(results) if self.options.compression else frozenset[str]()
        arguments: list[Any] = []
        for result in results:
            if result.task_id not in refused:
                arguments += (
                    self._metas + result.task_id,
                    result.payload,
                    milliseconds_of(result.expires),
                    int(result.state != "SUCCESS"),
                )
        for at in range(0, len(arguments), 4 * _CHUNK):
            self.links.run(_STORE, arguments[at : at + 4 * _CHUNK], self.options.timeout)

    def _already_successful(self, results: Sequence[Result]) -> frozenset[str]:
        """Which of these results would replace a SUCCESS; asked for where scripts cannot read what is stored."""
        others = [result.task_id for result in results if result.state != "SUCCESS"]
        return frozenset(id for id, meta in self.get(others).items() if meta.status == "SUCCESS")

    def get(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        if not task_ids:
            return {}
        payloads = self.links.call(
            "MGET", *[self._metas + task_id for task_id in task_ids], timeout=self.options.timeout
        )
        return {
            task_id: self._read(payload)
            for task_id, payload in zip(task_ids, payloads, strict=True)
            if payload is not None
        }

    def forget(self, task_ids: Sequence[str]) -> None:
        if task_ids:
            self.links.call("DEL", *[self._metas + task_id for task_id in task_ids], timeout=self.options.timeout)

    # -- waiting --

    def wait(self, task_ids: Collection[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        return self._waiting.wait([self._metas + task_id for task_id in task_ids], timeout, on_meta)

    def subscribe(self, task_id: str, on_meta: Callable[[Meta], object]) -> Callable[[], None]:
        return self._listener.subscribe(self._metas + task_id, on_meta)

    # -- groups --

    def save_group(self, group_id: str, document: Any) -> None:
        payload = dumps(document, self.options.serializer).body
        key, milliseconds = f"{self._prefix}{GROUP}{group_id}", milliseconds_of(self.options.expires)
        lifetime = ("PX", milliseconds) if milliseconds else ()
        self.links.call("SET", key, payload, *lifetime, timeout=self.options.timeout)

    def restore_group(self, group_id: str) -> Any | None:
        payload = self.links.call("GET", f"{self._prefix}{GROUP}{group_id}", timeout=self.options.timeout)
        if payload is None:
            return None
        kind = serializer(self.options.serializer)
        return loads(unwrap(payload), kind.content_type, kind.content_encoding, self.options.accept)

    def delete_group(self, group_id: str) -> None:
        self.links.call("DEL", f"{self._prefix}{GROUP}{group_id}", timeout=self.options.timeout)

    def revocations(self) -> Revocations:
        return RedisRevocations(self.links, Keys(self._prefix).revocations)

    # -- chords --

    def _chord(self, chord: str) -> str:
        return chord_key(self._prefix, chord)

    def begin_chord(self, chord: str, size: int) -> None:
        lifetime = milliseconds_of(self.options.expires)
        kept = ("PX", lifetime) if lifetime else ()
        self.links.call("SET", self._chord(chord) + ".s", size, *kept, timeout=self.options.timeout)

    def store_parts(self, parts: Sequence[Part]) -> list[Part]:
        complete: list[Part] = []
        for at in range(0, len(parts), _CHUNK):
            some = parts[at : at + _CHUNK]
            arguments = [value for part in some for value in part_arguments(self._prefix, part)]
            told = self.links.run(_PARTS, arguments, self.options.timeout)
            complete += [part for part, done in zip(some, told, strict=True) if done]
        return complete

    def claim_chord(self, chord: str, claimant: str) -> bool:
        return bool(self.links.run(_CLAIM, [self._chord(chord), claimant], self.options.timeout))

    def chord_parts(self, chord: str) -> list[bytes]:
        return self.links.call("ZRANGE", self._chord(chord) + ".j", 0, -1, timeout=self.options.timeout)

    def close_chords(self, chords: Sequence[str]) -> None:
        self.links.run(_CLOSE, [_REMEMBERED, *map(self._chord, chords)], self.options.timeout)

    # -- life --

    def close(self) -> None:
        self._listener.close()
        self._waiting.close()
        self.links.close()

    def after_fork(self) -> None:
        self._listener.forget()
        self._waiting.close()
        self.links.forget()
