"""Declarations: the connection to the broker, and to Redis in particular."""

from collections.abc import Callable
from typing import Any

from umbel.config.declaring import setting


class BrokerSettings:
    """Broker: the connection to the system that keeps the queues."""

    broker_url: str | list[str] | None = setting(
        None,
        "URL of the broker, or several to fail over between (a list, or separated by ';'); None means an "
        "embedded SQLite file.",
        old="BROKER_URL",
        celery="amqp on localhost",
    )
    broker_read_url: str | list[str] | None = setting(
        None,
        "URL of the broker where neither `broker_write_url` nor `broker_url` is set. A worker consumes where it "
        "publishes: what follows a task is sent in the step that acknowledges it.",
        old="BROKER_READ_URL",
    )
    broker_write_url: str | list[str] | None = setting(
        None, "URL of the broker, before `broker_url`; for workers as well.", old="BROKER_WRITE_URL"
    )
    broker_transport: str | None = setting(
        None,
        "Transport of a broker that is described by single settings instead of a URL.",
        old="BROKER_TRANSPORT",
    )
    broker_host: str | None = setting(None, "Host name of a broker without a URL.", old="BROKER_HOST")
    broker_port: int | None = setting(None, "Port of a broker without a URL.", old="BROKER_PORT")
    broker_user: str | None = setting(None, "User name at a broker without a URL.", old="BROKER_USER")
    broker_password: str | None = setting(
        None, "Password at a broker without a URL.", old="BROKER_PASSWORD", secret=True
    )
    broker_vhost: str | None = setting(
        None, "Virtual host (RabbitMQ) or database of a broker without a URL.", old="BROKER_VHOST"
    )
    broker_transport_options: dict[str, Any] = setting(
        {}, "Further options of the broker's driver, by name.", old="BROKER_TRANSPORT_OPTIONS"
    )
    broker_use_ssl: bool | dict[str, Any] | None = setting(
        False,
        "Encrypt the connection: True, or a dict of TLS options (ca_certs, certfile, keyfile, cert_reqs).",
        old="BROKER_USE_SSL",
    )
    broker_login_method: str | None = setting(
        None,
        "How to log in at RabbitMQ: 'PLAIN' (default; 'AMQPLAIN' means the same), or 'EXTERNAL', by the client's "
        "certificate.",
        old="BROKER_LOGIN_METHOD",
    )
    broker_failover_strategy: str | Callable[..., Any] | None = setting(
        None,
        "Order in which several URLs are tried: 'round-robin' (default), 'shuffle', or a function of the list that "
        "returns an iterator.",
        old="BROKER_FAILOVER_STRATEGY",
    )
    broker_heartbeat: float | None = setting(
        120, "Seconds between AMQP heartbeats; 0 or None turns them off.", old="BROKER_HEARTBEAT"
    )
    broker_heartbeat_checkrate: float = setting(
        3.0,
        "How often per interval heartbeats are checked.",
        old="BROKER_HEARTBEAT_CHECKRATE",
        ignored="the AMQP client decides when it checks",
    )
    broker_pool_limit: int | None = setting(
        10,
        "Connections that one process keeps for publishing; None sets no limit.",
        old="BROKER_POOL_LIMIT",
        minimum=0,
        ignored="one driver serves all threads of a process",
    )
    broker_pool_acquire_timeout: float | None = setting(
        None,
        "Seconds to wait for a free connection.",
        old="BROKER_POOL_ACQUIRE_TIMEOUT",
        ignored="`publish_timeout` is the one deadline",
    )
    broker_connection_timeout: float = setting(
        4.0, "Seconds until an attempt to connect is given up.", old="BROKER_CONNECTION_TIMEOUT", minimum=0
    )
    broker_connection_retry: bool = setting(
        True,
        "Connect again when the connection breaks.",
        old="BROKER_CONNECTION_RETRY",
        ignored="a lost connection is always made anew, until `publish_timeout`",
    )
    broker_connection_retry_on_startup: bool = setting(
        True,
        "Keep trying when the broker cannot be reached at start.",
        old="BROKER_CONNECTION_RETRY_ON_STARTUP",
        celery="None (follows `broker_connection_retry`)",
    )
    broker_connection_max_retries: int | None = setting(
        100,
        "Attempts to connect before the worker gives up; 0 or None never gives up.",
        old="BROKER_CONNECTION_MAX_RETRIES",
        minimum=0,
    )
    broker_channel_error_retry: bool = setting(
        False,
        "Reopen a channel that failed.",
        old="BROKER_CHANNEL_ERROR_RETRY",
        ignored="a broken connection is always replaced as a whole",
    )
    broker_native_delayed_delivery_queue_type: str = setting(
        "quorum",
        "RabbitMQ type of the queues that keep delayed messages: 'quorum' or 'classic'.",
        old="BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE",
    )


class RedisSettings:
    """Redis: connections to Redis, as broker and as result backend."""

    redis_host: str | None = setting(
        None, "Host of the Redis result backend, if its URL has none.", old="CELERY_REDIS_HOST"
    )
    redis_port: int | None = setting(
        None, "Port of the Redis result backend, if its URL has none.", old="CELERY_REDIS_PORT"
    )
    redis_db: int | None = setting(
        None,
        "Database number of the Redis result backend, if `result_backend` is just 'redis', or a Unix socket.",
        old="CELERY_REDIS_DB",
    )
    redis_username: str | None = setting(
        None,
        "ACL user of the Redis result backend, if its URL has none.",
        old="CELERY_REDIS_USERNAME",
    )
    redis_password: str | None = setting(
        None,
        "Password of the Redis result backend, if its URL has none.",
        old="CELERY_REDIS_PASSWORD",
        secret=True,
    )
    redis_client_name: str | None = setting(None, "Name that connections show in CLIENT LIST.")
    redis_max_connections: int | None = setting(
        None,
        "Connections that one process opens at most for results; None sets no limit.",
        old="CELERY_REDIS_MAX_CONNECTIONS",
        minimum=1,
        ignored="a process opens no more than it has threads that talk to Redis at the same time",
    )
    redis_socket_timeout: float | None = setting(
        120.0, "Seconds to wait for a reply.", old="CELERY_REDIS_SOCKET_TIMEOUT"
    )
    redis_socket_connect_timeout: float | None = setting(
        None,
        "Seconds to wait for a connection; None means `broker_connection_timeout`.",
        old="CELERY_REDIS_SOCKET_CONNECT_TIMEOUT",
    )
    redis_socket_keepalive: bool = setting(
        True, "TCP keep-alive: idle connections are checked.", old="CELERY_REDIS_SOCKET_KEEPALIVE", celery="False"
    )
    redis_retry_on_timeout: bool = setting(
        False,
        "Ask for a result once more when the reply did not come in time, or the connection was lost.",
        old="CELERY_REDIS_RETRY_ON_TIMEOUT",
    )
    redis_backend_use_ssl: dict[str, Any] | bool | None = setting(
        None,
        "TLS options of the Redis result backend (ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs).",
        old="CELERY_REDIS_BACKEND_USE_SSL",
    )
    redis_backend_health_check_interval: float | None = setting(
        None,
        "Seconds a connection may be idle before it is checked, by TCP keep-alive; None leaves that to the system.",
    )
    redis_backend_credential_provider: Any = setting(
        None,
        "Object of redis-py's class `CredentialProvider`, or the class or its dotted name, for passwords that change.",
        secret=True,
    )
