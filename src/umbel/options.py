"""What a task may be told about itself: every option with its type and default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

FROM_CONFIG = {
    "serializer": "task_serializer",
    "rate_limit": "task_default_rate_limit",
    "rate_limit_scope": "task_default_rate_limit_scope",
    "priority": "task_default_priority",
    "ignore_result": "task_ignore_result",
    "acks_late": "task_acks_late",
    "acks_on_failure": "task_acks_on_failure",
    "acks_on_timeout": "task_acks_on_timeout",
    "acks_on_failure_or_timeout": "task_acks_on_failure_or_timeout",
    "reject_on_worker_lost": "task_reject_on_worker_lost",
    "retry_on_worker_lost": "task_retry_on_worker_lost",
    "track_started": "task_track_started",
    "store_errors_even_if_ignored": "task_store_errors_even_if_ignored",
    "store_eager_result": "task_store_eager_result",
}
"""Options that the application's settings give where the task does not."""


class TaskOptions:
    """Options of a task: arguments of ``@app.task(…)`` or attributes of a class. Times are seconds.

    None stands for the application's setting, where there is one. ``throws``: errors that are expected.
    ``max_retries`` None is without end. ``retry_backoff``: first pause, doubled at each retry up to
    ``retry_backoff_max``; ``retry_jitter`` draws it at random. ``typing``: check arguments when the task is called;
    ``validate`` and ``pydantic``: convert them by their annotations when it runs. ``trail``: note the tasks it sends.

    ``rate_limit``: tasks per second, or text such as ``"100/m"``; 0 for none. ``rate_limit_scope``: ``"worker"`` (each
    worker by itself) or ``"cluster"``. ``rate_limit_key``: what has a limit of its own, as a format string over the
    parameters (``"{tenant}"``) or a function that is called with the task's arguments.
    """

    typing: bool | None = None
    serializer: str | None = None
    compression: str | None = None
    priority: int | None = None
    expires: Any = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    delivery_mode: int | str | None = None
    rate_limit: str | int | float | None = None
    rate_limit_scope: str | None = None
    rate_limit_key: str | Callable[..., Any] | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    store_eager_result: bool | None = None
    track_started: bool | None = None
    acks_late: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    retry_on_worker_lost: bool | None = None
    send_events: bool = True
    trail: bool = True
    resultrepr_maxsize: int = 1024
    throws: tuple[type[BaseException], ...] = ()

    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True

    pydantic: bool = False
    pydantic_strict: bool = False
    pydantic_context: Mapping[str, Any] | None = None
    pydantic_dump_kwargs: Mapping[str, Any] | None = None
    validate: bool = False
