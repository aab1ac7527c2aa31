"""Asking a result store again after a passing fault: ``result_backend_always_retry``, ``redis_retry_on_timeout``.

Waiting for results outlives faults by itself, and workers store results until they are stored. What is made lasting
here are the calls that ask or change something at once.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from umbel.errors import OperationalError

if TYPE_CHECKING:
    from umbel.backends.base import Backend
    from umbel.config import Settings

log = logging.getLogger("umbel.results")

CALLS = ("get", "forget", "save_group", "restore_group", "delete_group")
"""Methods of a backend that may be called twice."""


class Policy(Struct, frozen=True):
    """``attempts`` after the first one; pauses between them from ``first`` seconds, doubled up to ``longest``."""

    attempts: float
    first: float = 0.0
    longest: float = 0.0

    def pause(self, attempt: int) -> float:
        """Seconds before the attempt of this number, from 0 on: any part of the pause, so that clients spread."""
        return random.uniform(0.0, min(self.longest, self.first * 2.0 ** min(attempt, 60)))


def policy_of(conf: Settings, *, is_redis: bool) -> Policy | None:
    """How the settings want calls repeated; None: not at all."""
    if conf.result_backend_always_retry:
        return Policy(
            conf.result_backend_max_retries,
            conf.result_backend_base_sleep_between_retries_ms / 1000,
            conf.result_backend_max_sleep_between_retries_ms / 1000,
        )
    return Policy(1) if is_redis and conf.redis_retry_on_timeout else None


def repeat_calls(backend: Backend, policy: Policy) -> None:
    """From now on have the ``CALLS`` of this object repeated when they raise OperationalError."""
    for name in CALLS:
        setattr(backend, name, _repeating(getattr(backend, name), policy))


def _repeating(call: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    @wraps(call)
    def repeated(*args: Any, **kwargs: Any) -> Any:
        attempt = 0
        while True:
            try:
                return call(*args, **kwargs)
            except OperationalError as error:
                if attempt >= policy.attempts:
                    raise
                if not attempt:
                    log.warning("the result store is asked again: call=%s error=%s", call.__name__, error)
                time.sleep(policy.pause(attempt))
                attempt += 1

    return repeated
