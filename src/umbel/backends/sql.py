"""SQL databases as result stores, with Celery's tables: its clients and workers read what is written here.

``sqlite:///path``, ``postgresql://…``, ``mysql://…``, ``mariadb://…`` (Celery's ``db+…`` too). Blobs hold what the
result serializer makes, compressed where ``result_compression`` says so.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from umbel.backends.base import READY_STATES, Backend, Features, Meta, Options, Part, Result, expiry_of
from umbel.backends.sql_chords import ChordTable
from umbel.backends.sql_results import Columns, ResultTable, date_of, stored_date
from umbel.backends.sql_watcher import Watcher
from umbel.brokers.sql.database import Database, Link
from umbel.brokers.sql.revocations import SQLRevocations
from umbel.codecs import dumps, loads, serializer
from umbel.codecs.results import unwrap, wrap_compressed
from umbel.errors import BackendError
from umbel.revocations import Revocations

_PICKLE = "application/x-python-serialize"
_abandoned: list[Any] = []
_encoder = msgspec.msgpack.Encoder()


class SQLBackend(Backend):
    """See the module's docstring.

    Of ``options.transport``: ``table_names`` and ``table_schemas`` (by ``task`` and ``group``), and what ``Database``
    takes. What Celery's tables have no column for (group and parent ids) is not kept.
    """

    features = Features(chords=True)

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__(url, options)
        transport = self.options.transport
        self.database = Database(
            url,
            refusal=BackendError,
            connect_timeout=self.options.connect_timeout,
            patience=self.options.timeout,
            ssl=self.options.ssl,
            transport=transport,
        )
        names, schemas = transport.get("table_names"), transport.get("table_schemas")
        self.attached = bool(schemas) and self.database.kind == "sqlite"
        """Whether the tables are in another file, which only the engine of this backend knows."""
        self.table = ResultTable(self.database.kind, names, schemas)
        self.chords = ChordTable(self.database.kind)
        self._watcher = Watcher(self.database, self.table, self._meta)

    @contextmanager
    def _link(self) -> Generator[Link]:
        with self.database.borrowed() as link:
            self.table.set_up(link)
            yield link

    def prepare(self) -> None:
        with self._link():
            pass

    # -- encoding --

    def encode(self, meta: Meta, *, reply_to: str = "", correlation_id: str = "") -> Result:
        columns: list[Any] = [
            self._dump(meta.result),
            stored_date(meta.date_done) if meta.date_done else date_of(datetime.datetime.now(datetime.UTC)),
            meta.traceback,
            self._dump(meta.children) if meta.children else None,
        ]
        if meta.name is None:
            columns += [None] * 7
        else:
            stamps = {"stamped_headers": list(meta.stamps), "stamps": dict(meta.stamps)} if meta.stamps else None
            columns += [
                meta.name,
                self._dump(meta.args),
                self._dump(meta.kwargs),
                meta.worker,
                meta.retries,
                meta.queue,
                self._dump(stamps) if stamps else None,
            ]
        payload = _encoder.encode(columns)
        return Result(meta.task_id, meta.status, payload, expiry_of(meta, self.options), reply_to, correlation_id)

    def _dump(self, value: Any) -> bytes:
        body = dumps(value, self.options.serializer).body
        return wrap_compressed(body, self.options.compression) if self.options.compression else body

    def _load(self, blob: bytes | None) -> Any:
        if blob is None:
            return None
        body = unwrap(bytes(blob))
        kind = serializer(self.options.serializer)
        if body[:1] == b"\x80" and body[-1:] == b"." and kind.content_type != _PICKLE:
            return loads(body, _PICKLE, "binary", self.options.accept)
        return loads(body, kind.content_type, kind.content_encoding, self.options.accept)

    def _meta(self, row: Columns) -> Meta:
        task_id, status, result, done, traceback, children, name, args, kwargs, worker, retries, queue, stamps = row
        if isinstance(done, str):
            done = datetime.datetime.fromisoformat(done)
        ready = status in READY_STATES
        stamped: Any = self._load(stamps) or {}
        return Meta(
            task_id=task_id,
            status=status,
            result=self._load(result),
            traceback=traceback,
            children=self._load(children),
            date_done=done.replace(tzinfo=datetime.UTC).isoformat() if done is not None and ready else None,
            name=name,
            args=self._load(args),
            kwargs=self._load(kwargs),
            worker=worker,
            retries=retries,
            queue=queue,
            stamps=stamped.get("stamps") or None,
        )

    # -- storing and reading --

    def store(self, results: Sequence[Result]) -> None:
        with self._link() as link, link.transaction():
            self.table.write(link, results)

    def get(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        def read(link: Link) -> list[Columns]:
            self.table.set_up(link)
            return self.table.read(link, task_ids)

        rows = self.database.read(read)
        return {row[0]: self._meta(row) for row in rows}

    def wait(self, task_ids: Collection[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        return self._watcher.wait(task_ids, timeout, on_meta)

    def subscribe(self, task_id: str, on_meta: Callable[[Meta], object]) -> Callable[[], None]:
        return self._watcher.subscribe(task_id, on_meta)

    def forget(self, task_ids: Sequence[str]) -> None:
        with self._link() as link, link.transaction():
            self.table.remove(link, task_ids)

    # -- groups --

    def save_group(self, group_id: str, document: Any) -> None:
        with self._link() as link:
            self.table.save_group(link, group_id, self._dump(document), date_of(datetime.datetime.now(datetime.UTC)))

    def restore_group(self, group_id: str) -> Any | None:
        with self._link() as link:
            sql = f"SELECT result FROM {self.table.groups} WHERE taskset_id = {self.table.mark}"
            return self._load(link.value(sql, (group_id,)))

    def delete_group(self, group_id: str) -> None:
        with self._link() as link, link.transaction():
            link.run(f"DELETE FROM {self.table.groups} WHERE taskset_id = {self.table.mark}", (group_id,))

    def revocations(self) -> Revocations:
        return SQLRevocations(self.database, f"{self.options.key_prefix}umbel_")

    # -- chords --

    @contextmanager
    def _chord_link(self) -> Generator[Link]:
        with self.database.borrowed() as link:
            self.chords.set_up(link)
            with link.transaction():
                yield link

    def begin_chord(self, chord: str, size: int) -> None:
        """Nothing: Celery's workers do not count members in SQL."""

    def store_parts(self, parts: Sequence[Part]) -> list[Part]:
        with self._chord_link() as link:
            return self.chords.add(link, parts, once=False)

    def claim_chord(self, chord: str, claimant: str) -> bool:
        with self._chord_link() as link:
            return self.chords.claim(link, chord, claimant)

    def chord_parts(self, chord: str) -> list[bytes]:
        with self._chord_link() as link:
            return self.chords.payloads(link, chord)

    def close_chords(self, chords: Sequence[str]) -> None:
        with self._chord_link() as link:
            self.chords.close(link, chords)

    # -- life --

    def cleanup(self) -> int:
        count = 0
        with self._chord_link() as link:
            self.chords.remove_expired(link)
        failures = self.options.failure_expires
        with self._link() as link, link.transaction():
            if failures is None and self.options.expires:
                return self.table.remove_older(link, _ago(self.options.expires))
            if failures:
                count += self.table.remove_older(link, _ago(failures), failed=True)
            if self.options.expires:
                count += self.table.remove_older(link, _ago(self.options.expires), failed=False)
        return count

    def close(self) -> None:
        self._watcher.close()
        self.database.close()

    def after_fork(self) -> None:
        _abandoned.append(self._watcher)
        self._watcher = Watcher(self.database, self.table, self._meta)
        self.database.after_fork()


class MySQLBackend(SQLBackend):
    """The same on MySQL and MariaDB, which cannot tell of changes."""

    features = Features(push=False, chords=True)


def _ago(seconds: float) -> str:
    return date_of(datetime.datetime.fromtimestamp(time.time() - seconds, datetime.UTC))
