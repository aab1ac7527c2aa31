"""Declarations: results, and the databases that keep them."""

from collections.abc import Callable
from math import inf
from typing import Any

from umbel.config.declaring import setting
from umbel.config.unused import NO_DRIVER


class ResultSettings:
    """Results: where results are stored, in which form, and for how long."""

    result_backend: str | None = setting(
        None,
        "URL or name of the result backend; None means the same file with the embedded broker, otherwise no results.",
        old="CELERY_RESULT_BACKEND",
        celery="None (no results)",
    )
    result_backend_transport_options: dict[str, Any] = setting(
        {},
        "Further options of the result backend's driver, by name.",
        old="CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS",
    )
    result_expires: float | None = setting(
        86400.0,
        "Seconds that results are kept (a timedelta is accepted); 0 or None keeps them for ever.",
        old="CELERY_TASK_RESULT_EXPIRES",
    )
    result_failure_expires: float | None = setting(
        None,
        "Seconds that failures are kept; None means `result_expires`.",
        old="CELERY_RESULT_FAILURE_EXPIRES",
    )
    result_chord_expires: float | None = setting(
        None,
        "Seconds that the counters of an unfinished chord are kept; None means `result_expires`.",
        old="CELERY_RESULT_CHORD_EXPIRES",
    )
    result_serializer: str = setting("json", "Serializer of results.", old="CELERY_RESULT_SERIALIZER")
    result_accept_content: list[str] | None = setting(
        None, "Content types accepted in results; None means `accept_content`.", old="RESULT_ACCEPT_CONTENT"
    )
    result_compression: str | None = setting(
        None, "Compression of results; None stores them as they are.", old="CELERY_RESULT_COMPRESSION"
    )
    result_extended: bool = setting(
        False,
        "Store name, arguments, worker, queue and retries with each result.",
        old="CELERY_RESULT_EXTENDED",
    )
    result_persistent: bool | None = setting(
        None,
        "Results sent as messages survive a restart of the broker (`rpc://`).",
        old="CELERY_RESULT_PERSISTENT",
    )
    result_cache_max: int = setting(
        -1,
        "Results that came by `rpc://` and that a client keeps until they are asked for; 0 keeps all, -1 means 50,000. "
        "Those of other stores are kept by the objects that were asked for them.",
        old="CELERY_MAX_CACHED_RESULTS",
        minimum=-1,
    )
    result_chord_join_timeout: float = setting(
        3.0,
        "Seconds to wait for one member's result when a chord's results are put together.",
        old="CELERY_RESULT_CHORD_JOIN_TIMEOUT",
        ignored="chords are counted by member, nobody joins",
    )
    result_chord_retry_interval: float = setting(
        1.0,
        "Seconds between looks at an unfinished chord where `celery.chord_unlock` waits for it: in mixed fleets whose "
        "results are not in Redis. Elsewhere the last member starts the body, nobody polls.",
        old="CELERY_RESULT_CHORD_RETRY_INTERVAL",
    )
    result_backend_always_retry: bool = setting(
        False,
        "Ask the result backend again after a passing fault, for states and saved groups as well; without it only "
        "waiting for results and storing them are repeated.",
        old="CELERY_RESULT_BACKEND_ALWAYS_RETRY",
    )
    result_backend_max_retries: float = setting(
        inf,
        "Attempts after the first until `result_backend_always_retry` gives up.",
        old="CELERY_RESULT_BACKEND_MAX_RETRIES",
    )
    result_backend_base_sleep_between_retries_ms: int = setting(
        10,
        "First pause between such attempts, in milliseconds; it doubles, and each is a random part of it.",
        old="CELERY_RESULT_BACKEND_BASE_SLEEP_BETWEEN_RETRIES_MS",
        minimum=0,
    )
    result_backend_max_sleep_between_retries_ms: int = setting(
        10000,
        "Longest pause between such attempts, in milliseconds.",
        old="CELERY_RESULT_BACKEND_MAX_SLEEP_BETWEEN_RETRIES_MS",
        minimum=0,
    )
    result_backend_thread_safe: bool = setting(
        False,
        "Share one backend object between threads.",
        ignored="every backend can be shared between threads",
    )
    result_exchange: str = setting(
        "celeryresults",
        "Exchange of results sent as messages.",
        old="CELERY_RESULT_EXCHANGE",
        ignored="`rpc://` sends to reply queues directly",
    )
    result_exchange_type: str = setting(
        "direct",
        "Type of that exchange.",
        old="CELERY_RESULT_EXCHANGE_TYPE",
        ignored="`rpc://` sends to reply queues directly",
    )


class ResultDatabaseSettings:
    """Result databases: SQL databases, memcached, MongoDB and Cassandra as result backends."""

    database_url: str | None = setting(
        None, "URL of a SQL result backend, if `result_backend` is 'database'.", old="CELERY_RESULT_DBURI"
    )
    database_engine_options: dict[str, Any] = setting(
        {},
        "Options of SQLAlchemy's `create_engine`, beside Umbel's own. A broken connection is replaced without them.",
        old="CELERY_RESULT_ENGINE_OPTIONS",
        celery='{"pool_pre_ping": True, "pool_recycle": 3600}',
    )
    database_engine_callback: Callable[..., Any] | str | None = setting(
        None,
        "Function, or its dotted name, called with each new SQLAlchemy engine of the result backend.",
        old="DATABASE_ENGINE_CALLBACK",
    )
    database_table_names: dict[str, Any] | None = setting(
        None, "Names of the tables, by 'task' and 'group'.", old="CELERY_RESULT_DB_TABLENAMES"
    )
    database_table_schemas: dict[str, Any] | None = setting(
        None,
        "Schemas of the tables, by 'task' and 'group'; they must exist.",
        old="DATABASE_TABLE_SCHEMAS",
    )
    database_create_tables_at_setup: bool = setting(
        True,
        "A worker creates missing tables when it starts, and says so in the log where it may not; otherwise they are "
        "created when the first result is stored or asked for.",
        old="DATABASE_CREATE_TABLES_AT_SETUP",
    )
    database_short_lived_sessions: bool = setting(
        False,
        "Close the ORM session after each operation.",
        old="CELERY_RESULT_DB_SHORT_LIVED_SESSIONS",
        ignored="connections go back to the pool after each operation",
    )
    cache_backend: str | None = setting(
        None, "URL of a cache, if `result_backend` is 'cache'.", old="CELERY_CACHE_BACKEND"
    )
    cache_backend_options: dict[str, Any] = setting(
        {}, "Options of the memcached client.", old="CELERY_CACHE_BACKEND_OPTIONS", ignored=NO_DRIVER
    )
    mongodb_backend_settings: dict[str, Any] | None = setting(
        None,
        "Options of the MongoDB result backend: database, collections, client options.",
        old="CELERY_MONGODB_BACKEND_SETTINGS",
        ignored=NO_DRIVER,
    )
    cassandra_servers: list[str] | None = setting(
        None, "Hosts of the Cassandra cluster.", old="CASSANDRA_SERVERS", ignored=NO_DRIVER
    )
    cassandra_port: int | None = setting(None, "Port of the Cassandra hosts.", old="CASSANDRA_PORT", ignored=NO_DRIVER)
    cassandra_keyspace: str | None = setting(
        None, "Keyspace of the results.", old="CASSANDRA_KEYSPACE", ignored=NO_DRIVER
    )
    cassandra_table: str | None = setting(None, "Table of the results.", old="CASSANDRA_TABLE", ignored=NO_DRIVER)
    cassandra_read_consistency: str | None = setting(
        None, "Consistency level of reads.", old="CASSANDRA_READ_CONSISTENCY", ignored=NO_DRIVER
    )
    cassandra_write_consistency: str | None = setting(
        None, "Consistency level of writes.", old="CASSANDRA_WRITE_CONSISTENCY", ignored=NO_DRIVER
    )
    cassandra_entry_ttl: float | None = setting(
        None, "Seconds that rows are kept; None keeps them for ever.", old="CASSANDRA_ENTRY_TTL", ignored=NO_DRIVER
    )
    cassandra_auth_provider: str | None = setting(
        None, "Name of a class of `cassandra.auth`.", old="CASSANDRA_AUTH_PROVIDER", ignored=NO_DRIVER
    )
    cassandra_auth_kwargs: dict[str, Any] | None = setting(
        None, "Arguments of the authentication class.", old="CASSANDRA_AUTH_KWARGS", secret=True, ignored=NO_DRIVER
    )
    cassandra_options: dict[str, Any] = setting(
        {}, "Further arguments of `cassandra.cluster.Cluster`.", old="CASSANDRA_OPTIONS", ignored=NO_DRIVER
    )
    cassandra_bundle_path: str | None = setting(
        None, "Older name of `cassandra_secure_bundle_path`.", old="CASSANDRA_BUNDLE_PATH", ignored=NO_DRIVER
    )
    cassandra_secure_bundle_path: str | None = setting(
        None, "File of the secure connect bundle of a hosted cluster.", ignored=NO_DRIVER
    )
