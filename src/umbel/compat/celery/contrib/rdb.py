"""``celery.contrib.rdb``: a debugger inside a running task, reached over the network."""

from umbel.rdb import DEFAULT_PORT, RDB_HOST, RDB_PORT, Rdb, debugger, set_trace

CELERY_RDB_HOST = RDB_HOST
CELERY_RDB_PORT = RDB_PORT

__all__ = ["CELERY_RDB_HOST", "CELERY_RDB_PORT", "DEFAULT_PORT", "Rdb", "debugger", "set_trace"]
