"""``celery.exceptions``: Umbel's errors under Celery's names, and those that Celery alone has.

On the wire all of them are in the module ``celery.exceptions`` (``billiard.exceptions``, ``kombu.exceptions``), so
that clients of a real Celery rebuild their own. Warnings are here to be filtered; Umbel warns by its log.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, NoReturn

import click

from umbel.compat.missing import refuse
from umbel.errors import (
    AlreadyRegistered,
    BackendError,
    ChordError,
    ConfigurationError,
    Ignore,
    IncompleteStream,
    InvalidTaskError,
    MaxRetriesExceededError,
    NotRegistered,
    OperationalError,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskError,
    TaskPredicate,
    TaskRevokedError,
    Terminated,
    TimeLimitExceeded,
    TimeoutError,
    UmbelError,
    UnroutableMessage,
    WorkerLostError,
)

CeleryError = UmbelError
ImproperlyConfigured = ConfigurationError
QueueNotFound = UnroutableMessage
BackendStoreError = BackendGetMetaError = BackendError


class SecurityError(UmbelError):
    """A message is not signed as it should be."""


class CeleryWarning(UserWarning):
    """Base of Celery's warnings."""


class AlwaysEagerIgnored(CeleryWarning):
    """``send_task`` ignores ``task_always_eager``."""


class DuplicateNodenameWarning(CeleryWarning):
    """Several workers have one name."""


class DuplicateTaskNameWarning(CeleryWarning):
    """Several tasks have one name."""


class FixupWarning(CeleryWarning):
    """A fixup did not work."""


class NotConfigured(CeleryWarning):
    """There is no configuration."""


class SecurityWarning(CeleryWarning):
    """Something may be unsafe."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """Something will be deprecated in Celery."""


class CDeprecationWarning(DeprecationWarning):
    """Something is deprecated in Celery."""


class CeleryCommandException(click.ClickException):
    """Ends a command with ``exit_code``."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # pyright: ignore[reportAttributeAccessIssue] - click declares it for the class


def reraise(tp: type[BaseException], value: BaseException, tb: TracebackType | None = None) -> NoReturn:
    """Raise ``value`` with this traceback."""
    raise value.with_traceback(tb) if value.__traceback__ is not tb else value


__all__ = [
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "CDeprecationWarning",
    "CPendingDeprecationWarning",
    "CeleryCommandException",
    "CeleryError",
    "CeleryWarning",
    "ChordError",
    "DuplicateNodenameWarning",
    "DuplicateTaskNameWarning",
    "FixupWarning",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotConfigured",
    "NotRegistered",
    "OperationalError",
    "QueueNotFound",
    "Reject",
    "Retry",
    "SecurityError",
    "SecurityWarning",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "Terminated",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
    "reraise",
]


def __getattr__(name: str) -> Any:
    return refuse("celery.exceptions", name)
