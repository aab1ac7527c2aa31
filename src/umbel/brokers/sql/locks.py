"""Named locks: a row with a holder and the database's time at which its hold ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from umbel.brokers.base import Lock
from umbel.brokers.sql.database import Link
from umbel.brokers.sql.dialects import Dialect
from umbel.message import new_id


class SQLLock(Lock):
    """See :class:`Lock`."""

    def __init__(
        self, connect: Callable[[], AbstractContextManager[Link]], dialect: Dialect, name: str, ttl: float
    ) -> None:
        self._connect = connect
        self._dialect = dialect
        self._name = name
        self._ttl = ttl
        self._holder = new_id()

    def acquire(self) -> bool:
        take = "UPDATE {p}locks SET holder = %s, ends = {now} + %s WHERE name = %s AND (holder = %s OR ends <= {now})"
        with self._connect() as link:
            if link.run(self._dialect.sql(take), (self._holder, self._ttl, self._name, self._holder)):
                return True
            ends = link.value(self._dialect.sql("SELECT {now} + %s"), (self._ttl,))
            return self._dialect.add_if_missing(link, "locks", "name, holder, ends", (self._name, self._holder, ends))

    def renew(self) -> bool:
        keep = "UPDATE {p}locks SET ends = {now} + %s WHERE name = %s AND holder = %s AND ends > {now}"
        with self._connect() as link:
            return link.run(self._dialect.sql(keep), (self._ttl, self._name, self._holder)) > 0

    def release(self) -> None:
        with self._connect() as link:
            sql = "DELETE FROM {p}locks WHERE name = %s AND holder = %s"
            link.run(self._dialect.sql(sql), (self._name, self._holder))
