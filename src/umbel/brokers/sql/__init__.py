"""SQL databases as message systems: SQLite (the embedded default), PostgreSQL, MySQL and MariaDB.

``broker`` is what the application talks to, ``consumer`` what a worker does; ``dialects`` holds the statements,
``tables`` what they run on, ``wakeup`` how idle threads learn of work, ``database`` connections and errors.
"""

from umbel.brokers.sql.broker import SQLBroker

__all__ = ["SQLBroker"]
