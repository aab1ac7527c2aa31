"""Declarations: how tasks run, where they are sent, and in which form."""

from typing import Any, Literal

from umbel.config.declaring import setting
from umbel.config.unused import NO_EVENTS


class TaskSettings:
    """Tasks: how tasks run: acknowledgement, limits, results, eager mode."""

    task_acks_late: bool = setting(
        True,
        "Acknowledge a task when it has an outcome, not when it starts, so that a dying worker loses "
        "nothing; False means at most once.",
        old="CELERY_ACKS_LATE",
        celery="False",
    )
    task_reject_on_worker_lost: bool | None = setting(
        True,
        "Deliver a task again when the process that ran it died; False fails it instead.",
        old="CELERY_REJECT_ON_WORKER_LOST",
        celery="None (acts as False)",
    )
    task_retry_on_worker_lost: bool = setting(
        False,
        "Count a lost worker as a retry of the task, within its `max_retries`.",
        old="CELERY_RETRY_ON_WORKER_LOST",
        ignored="a task whose worker died is delivered again, see `worker_delivery_limit`",
    )
    task_acks_on_failure_or_timeout: bool = setting(
        True,
        "Acknowledge tasks that failed or ran into a time limit; False rejects them.",
        old="CELERY_ACKS_ON_FAILURE_OR_TIMEOUT",
    )
    task_acks_on_failure: bool | None = setting(
        None,
        "As `task_acks_on_failure_or_timeout`, for failures only; None follows that setting.",
        old="CELERY_ACKS_ON_FAILURE",
    )
    task_acks_on_timeout: bool | None = setting(
        None,
        "As `task_acks_on_failure_or_timeout`, for time limits only; None follows that setting.",
        old="CELERY_ACKS_ON_TIMEOUT",
    )
    task_time_limit: float | None = setting(
        None, "Seconds after which a running task is ended by force.", old="CELERYD_TASK_TIME_LIMIT", minimum=0
    )
    task_soft_time_limit: float | None = setting(
        None,
        "Seconds after which `SoftTimeLimitExceeded` is raised inside a running task.",
        old="CELERYD_TASK_SOFT_TIME_LIMIT",
        minimum=0,
    )
    task_track_started: bool = setting(False, "Store the state STARTED when a task begins.", old="CELERY_TRACK_STARTED")
    task_ignore_result: bool = setting(
        False, "Store no results, unless a task asks for it.", old="CELERY_IGNORE_RESULT"
    )
    task_store_errors_even_if_ignored: bool = setting(
        False, "Store failures even where results are ignored.", old="CELERY_STORE_ERRORS_EVEN_IF_IGNORED"
    )
    task_remote_tracebacks: bool = setting(
        False,
        "Rebuild traceback objects of failed tasks at the client.",
        old="CELERY_REMOTE_TRACEBACKS",
        ignored="an exception that `get` raises always shows the worker's traceback below its own, as a note",
    )
    task_always_eager: bool = setting(
        False,
        "Run tasks in the caller's process instead of sending them; meant for tests.",
        old="CELERY_ALWAYS_EAGER",
    )
    task_eager_propagates: bool = setting(
        False,
        "Raise the exceptions of eager tasks instead of keeping them in the result.",
        old="CELERY_EAGER_PROPAGATES_EXCEPTIONS",
    )
    task_store_eager_result: bool = setting(
        False, "Store the results of eager tasks in the result backend too.", old="CELERY_STORE_EAGER_RESULT"
    )
    task_annotations: Any = setting(
        None,
        "Changes to task attributes from configuration: a dict by task name, an object, or a list of them.",
        old="CELERY_ANNOTATIONS",
    )
    task_allow_error_cb_on_chord_header: bool = setting(
        False,
        "An error callback on a chord is also called for failing members of its header.",
        old="CELERY_ALLOW_ERROR_CB_ON_CHORD_HEADER",
    )
    task_default_rate_limit: str | int | float | None = setting(
        None,
        "Rate limit of tasks that have none of their own: a number per second, or text such as '10/m'; 0 for none.",
        old="CELERY_DEFAULT_RATE_LIMIT",
    )
    task_default_rate_limit_scope: Literal["worker", "cluster"] = setting(
        "worker",
        "Whether rate limits hold for each worker by itself, as in Celery, or for all workers together.",
        own=True,
    )
    task_repr_maxlevels: int = setting(
        3, "Depth to which arguments are shown in logs and events.", old="CELERY_REPR_MAXLEVELS", minimum=0
    )
    task_protocol: Literal[1, 2] = setting(2, "Version of the message format that is sent.", old="CELERY_TASK_PROTOCOL")


class SendingSettings:
    """Routing and sending: to which queue a task goes, and in which form."""

    task_queues: list[Any] | dict[str, Any] | None = setting(
        None,
        "Queues to consume from and to declare: names, `Queue` objects, or a dict of options by name; None"
        " means `task_default_queue` alone.",
        old="CELERY_QUEUES",
    )
    task_routes: Any = setting(
        None,
        "Router or list of routers: dicts by task name or pattern, functions, or dotted names of functions.",
        old="CELERY_ROUTES",
    )
    task_create_missing_queues: bool = setting(
        True,
        "Declare queues that are named in a route or call but not in `task_queues`.",
        old="CELERY_CREATE_MISSING_QUEUES",
    )
    task_create_missing_queue_type: str = setting(
        "classic",
        "RabbitMQ type of queues declared that way: 'classic' or 'quorum'.",
        old="CELERY_CREATE_MISSING_QUEUE_TYPE",
    )
    task_create_missing_queue_exchange_type: str | None = setting(
        None,
        "Exchange type for queues declared that way; None means `task_default_exchange_type`.",
        old="CELERY_CREATE_MISSING_QUEUE_EXCHANGE_TYPE",
    )
    task_default_queue: str = setting("celery", "Queue of tasks without a route.", old="CELERY_DEFAULT_QUEUE")
    task_default_queue_type: str = setting(
        "classic",
        "RabbitMQ type of the default queue: 'classic' or 'quorum'.",
        old="CELERY_DEFAULT_QUEUE_TYPE",
    )
    task_default_exchange: str | None = setting(
        None,
        "Exchange of tasks without a route; None means the name of the default queue.",
        old="CELERY_DEFAULT_EXCHANGE",
    )
    task_default_exchange_type: str = setting(
        "direct", "Type of the default exchange.", old="CELERY_DEFAULT_EXCHANGE_TYPE"
    )
    task_default_routing_key: str | None = setting(
        None,
        "Routing key of tasks without a route; None means the name of the default queue.",
        old="CELERY_DEFAULT_ROUTING_KEY",
    )
    task_default_delivery_mode: int | str = setting(
        2,
        "2 or 'persistent' keeps messages over a restart of the broker, 1 or 'transient' does not (RabbitMQ).",
        old="CELERY_DEFAULT_DELIVERY_MODE",
    )
    task_default_priority: int | None = setting(
        None, "Priority of tasks that have none of their own, 0 to 9.", old="CELERY_DEFAULT_PRIORITY"
    )
    task_queue_max_priority: int | None = setting(
        None, "Highest priority that RabbitMQ queues are declared with.", old="CELERY_QUEUE_MAX_PRIORITY"
    )
    task_inherit_parent_priority: bool = setting(
        False, "Tasks sent by a task get its priority.", old="CELERY_INHERIT_PARENT_PRIORITY"
    )
    task_serializer: str = setting(
        "json",
        "Serializer of task messages: json, pickle, yaml, msgpack or a registered name.",
        old="CELERY_TASK_SERIALIZER",
    )
    task_compression: str | None = setting(
        None,
        "Compression of task messages: zlib, bzip2, gzip, lzma, zstd, brotli; None sends them as they are.",
        old="CELERY_MESSAGE_COMPRESSION",
    )
    task_publish_retry: bool = setting(
        True,
        "Try again when a message cannot be sent, within `publish_timeout`.",
        old="CELERY_TASK_PUBLISH_RETRY",
    )
    task_publish_retry_policy: dict[str, Any] = setting(
        {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2},
        "How often and at which intervals (seconds) sending is tried again.",
        old="CELERY_TASK_PUBLISH_RETRY_POLICY",
        ignored="what cannot be sent is tried again until the one deadline, `publish_timeout`",
    )
    task_send_sent_event: bool = setting(
        False, "Publish a `task-sent` event for each message.", old="CELERY_SEND_TASK_SENT_EVENT", ignored=NO_EVENTS
    )
    publish_timeout: float = setting(
        10.0,
        "Seconds until `delay()` gives up with `PublishTimeout`: one deadline for connecting, retrying and confirming.",
        minimum=0.001,
        own=True,
    )
    task_revoke_expires: float = setting(
        7 * 86400.0,
        "Seconds for which a revoked task is not run. More than the longest time for which a task waits or is delayed:"
        " after that it runs.",
        minimum=0.001,
        own=True,
    )
    dead_letter_expires: float | None = setting(
        7 * 86400.0, "Seconds that dead letters are kept; None keeps them until they are purged.", own=True
    )
