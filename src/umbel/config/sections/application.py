"""Declarations: the application as a whole, monitoring and remote control."""

from datetime import tzinfo
from typing import Any

from umbel.config.declaring import setting
from umbel.config.unused import NO_EVENTS, NO_REPLIES, NO_SIGNATURES


class ApplicationSettings:
    """Application: what concerns the whole application: modules, formats, time, security."""

    imports: list[str] = setting(
        [], "Modules that the worker imports at start, usually those that define tasks.", old="CELERY_IMPORTS"
    )
    include: list[str] = setting([], "Further modules to import at start, after `imports`.", old="CELERY_INCLUDE")
    accept_content: list[str] = setting(
        ["json"],
        "Serializer names or content types that may be decoded; everything else is refused before decoding.",
        old="CELERY_ACCEPT_CONTENT",
    )
    timezone: str | tzinfo | None = setting(
        None,
        "Time zone of schedules and of naive times, such as 'Europe/Berlin'; None means UTC if "
        "`enable_utc` is set, otherwise the local zone.",
        old="CELERY_TIMEZONE",
    )
    enable_utc: bool = setting(True, "Write times into messages in UTC.", old="ENABLE_UTC")
    mixed_fleet: bool = setting(
        False, "Celery workers share the queues: keep every message in a form that they can run.", own=True
    )
    key_prefix: str = setting(
        "", "Put in front of every key and channel name, so that applications can share a server.", own=True
    )
    canvas_max_size: int = setting(
        1_000_000,
        "Signatures in one canvas; a larger one is refused with `InvalidCanvas` before anything of it is sent.",
        minimum=1,
        own=True,
    )
    message_max_bytes: int = setting(
        64 * 1024 * 1024,
        "Largest body in bytes that may be sent; larger ones raise `MessageTooLarge`.",
        minimum=1024,
        own=True,
    )
    override_backends: dict[str, Any] = setting(
        {},
        "Result backends of the project's own: scheme to a class (an `umbel.backends.base.Backend`) or its name.",
    )
    security_key: str | None = setting(
        None,
        "File of the private key that signs messages (serializer 'auth').",
        old="CELERY_SECURITY_KEY",
        secret=True,
        ignored=NO_SIGNATURES,
    )
    security_key_password: bytes | None = setting(
        None, "Pass phrase of the private key.", old="CELERY_SECURITY_KEY_PASSWORD", secret=True, ignored=NO_SIGNATURES
    )
    security_certificate: str | None = setting(
        None,
        "File of the X.509 certificate that goes with `security_key`.",
        old="CELERY_SECURITY_CERTIFICATE",
        ignored=NO_SIGNATURES,
    )
    security_cert_store: str | None = setting(
        None,
        "Glob of the certificates whose signatures are accepted.",
        old="CELERY_SECURITY_CERT_STORE",
        ignored=NO_SIGNATURES,
    )
    security_digest: str = setting(
        "sha256", "Digest that signatures are made with.", old="CELERY_SECURITY_DIGEST", ignored=NO_SIGNATURES
    )


class MonitoringSettings:
    """Monitoring: events and remote control: how workers are watched and steered."""

    control_exchange: str = setting(
        "celery", "Name of the fan-out exchange of remote control commands.", old="CONTROL_EXCHANGE"
    )
    control_queue_ttl: float | None = setting(
        300.0,
        "Seconds after which an unread remote control command is dropped.",
        old="CONTROL_QUEUE_TTL",
        ignored=NO_REPLIES,
    )
    control_queue_expires: float | None = setting(
        10.0,
        "Seconds without a reader after which a remote control queue is deleted.",
        old="CONTROL_QUEUE_EXPIRES",
        ignored=NO_REPLIES,
    )
    control_queue_exclusive: bool = setting(
        True,
        "A remote control queue belongs to one connection only (RabbitMQ).",
        old="CONTROL_QUEUE_EXCLUSIVE",
        ignored=NO_REPLIES,
    )
    control_queue_durable: bool = setting(
        False,
        "Remote control queues survive a restart of the broker (RabbitMQ).",
        old="CONTROL_QUEUE_DURABLE",
        ignored=NO_REPLIES,
    )
    event_exchange: str = setting(
        "celeryev", "Name of the exchange that events are published to.", old="CELERY_EVENT_EXCHANGE", ignored=NO_EVENTS
    )
    event_queue_prefix: str = setting(
        "celeryev",
        "First part of the names of the queues that monitors read events from.",
        old="CELERY_EVENT_QUEUE_PREFIX",
        ignored=NO_EVENTS,
    )
    event_queue_ttl: float | None = setting(
        5.0, "Seconds after which an unread event is dropped.", old="CELERY_EVENT_QUEUE_TTL", ignored=NO_EVENTS
    )
    event_queue_expires: float | None = setting(
        60.0,
        "Seconds without a reader after which an event queue is deleted.",
        old="CELERY_EVENT_QUEUE_EXPIRES",
        ignored=NO_EVENTS,
    )
    event_queue_exclusive: bool = setting(
        True,
        "An event queue belongs to one connection only (RabbitMQ).",
        old="CELERY_EVENT_QUEUE_EXCLUSIVE",
        ignored=NO_EVENTS,
    )
    event_queue_durable: bool = setting(
        False,
        "Event queues survive a restart of the broker (RabbitMQ).",
        old="CELERY_EVENT_QUEUE_DURABLE",
        ignored=NO_EVENTS,
    )
    event_serializer: str = setting("json", "Serializer of events.", old="CELERY_EVENT_SERIALIZER", ignored=NO_EVENTS)
    events_executable: str | None = setting(
        None, "Python executable of an event monitor that is started in the background.", ignored=NO_EVENTS
    )
    events_logfile: str | None = setting(None, "Log file of an event monitor in the background.", ignored=NO_EVENTS)
    events_pidfile: str | None = setting(
        None, "File for the process id of an event monitor in the background.", ignored=NO_EVENTS
    )
    events_uid: str | int | None = setting(
        None, "User that an event monitor in the background changes to.", ignored=NO_EVENTS
    )
    events_gid: str | int | None = setting(
        None, "Group that an event monitor in the background changes to.", ignored=NO_EVENTS
    )
    events_umask: str | int | None = setting(
        None, "File mode mask of an event monitor in the background.", ignored=NO_EVENTS
    )
