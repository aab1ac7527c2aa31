"""Every exception that Umbel raises, and the ones that tasks raise to steer it.

All derive from :class:`UmbelError`. Classes that travel inside results carry in ``wire_module`` the module
name under which Celery's clients know them (see ``codecs/exceptions.py``), so that both sides rebuild their own.
"""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

CELERY = "celery.exceptions"
BILLIARD = "billiard.exceptions"
KOMBU = "kombu.exceptions"


class UmbelError(Exception):
    """Base of every error of Umbel."""

    wire_module: ClassVar[str] = CELERY


# -- configuration and programming errors ----------------------------------------------------------


class ConfigurationError(UmbelError):
    """A setting is unknown, has the wrong type, or contradicts another one."""

    wire_name: ClassVar[str] = "ImproperlyConfigured"


class MissingExtra(ConfigurationError):
    """An optional dependency is not installed; the message names the extra to install."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'umbel[{extra}]'")
        self.feature = feature
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.feature, self.extra)


class StepError(UmbelError):
    """A boot step cannot be ordered, made or started."""


class NotFinalized(UmbelError, RuntimeError):
    """The tasks of an application with ``autofinalize=False`` are used before ``finalize()``."""


class TaskError(UmbelError):
    """Base of what is wrong with a task."""


class NotRegistered(TaskError, KeyError):
    """No task of this name is registered here."""

    def __str__(self) -> str:
        return f"task {self.args[0]!r} is not registered" if self.args else "task is not registered"


class AlreadyRegistered(TaskError):
    """Another task has this name already."""


class InvalidTaskError(TaskError):
    """A task message has no usable header or body."""


class LimitKeyError(UmbelError):
    """The key of a limit cannot be computed from the arguments of a task."""


class DuplicateTaskError(UmbelError):
    """A call of a unique task was not sent: its key belongs to another call. ``task_id``: the id of that one."""

    def __init__(self, task: str, task_id: str, key: str) -> None:
        super().__init__(f"task {task} is unique, and {task_id} has the key {key!r}")
        self.task = task
        self.task_id = task_id
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.task, self.task_id, self.key)


# -- messages --------------------------------------------------------------------------------------


class MessageError(UmbelError):
    """A message cannot be written or read."""

    wire_module = KOMBU


class EncodeError(MessageError):
    """A value cannot be serialized."""


class DecodeError(MessageError):
    """A body cannot be deserialized or decompressed."""


class ContentDisallowed(MessageError):
    """A content type is not among the accepted ones; nothing was decoded."""


class MessageTooLarge(MessageError):
    """A message is larger than ``message_max_bytes``; nothing was sent."""


# -- brokers and backends --------------------------------------------------------------------------


class OperationalError(UmbelError):
    """A broker or result store cannot be reached, or broke off in the middle; trying again may help."""

    wire_module = KOMBU


class PublishTimeout(OperationalError):
    """A message was not confirmed by the broker within ``publish_timeout``."""


class UnroutableMessage(UmbelError):
    """The broker has no queue for a message; nothing was sent."""


class BrokerError(UmbelError):
    """The broker refused an operation; trying again will not help."""


class BackendError(UmbelError):
    """The result store refused an operation; trying again will not help."""

    wire_name: ClassVar[str] = "BackendStoreError"


class NoBackend(BackendError):
    """A result is asked for although no result backend is configured."""


class LeaseLost(UmbelError):
    """The worker's lease ran out, so others may run its tasks; what it did since does not count."""


class TimeoutError(TaskError, TimeoutError):
    """A result was not there in time."""


# -- outcomes of tasks -----------------------------------------------------------------------------


class MaxRetriesExceededError(TaskError):
    """A task was retried as often as it may be."""

    def __init__(self, *args: Any, task_args: Any = (), task_kwargs: Any = None, **kwargs: Any) -> None:
        super().__init__(*args)
        self.task_args = task_args
        self.task_kwargs = dict(task_kwargs or {})


class TaskRevokedError(TaskError):
    """A task was revoked, terminated or expired before it could end."""


class ChordError(TaskError):
    """A member of a chord failed, so its body does not run."""


class InvalidCanvas(UmbelError, ValueError):
    """A chain, group or chord that cannot run: said when it is made or sent."""


class IncompleteStream(TaskError):
    """The end of a stream was not seen."""


class WorkerLostError(TaskError):
    """The process that ran a task died: crash, kill or exit."""

    wire_module = BILLIARD


class Terminated(TaskError):
    """A task was ended by a signal that somebody asked for."""

    wire_module = BILLIARD


class TimeLimitExceeded(TaskError):
    """A task ran longer than its hard time limit and was ended. ``args[0]`` is the limit in seconds."""

    wire_module = BILLIARD

    def __str__(self) -> str:
        return "TimeLimitExceeded" + str(self.args)


class SoftTimeLimitExceeded(TaskError):
    """Raised inside a task that runs longer than its soft time limit."""

    wire_module = BILLIARD

    def __str__(self) -> str:
        return "SoftTimeLimitExceeded" + str(self.args)


# -- raised by tasks to steer the worker -----------------------------------------------------------


class TaskPredicate(UmbelError):
    """Base of what a task raises not as a failure but as an instruction."""


class Ignore(TaskPredicate):
    """The task stores its own state; the worker acknowledges and stores nothing."""


class Replaced(Ignore):
    """The task has put another one in its place (``Task.replace``), whose result will be its own."""


class Reject(TaskPredicate):
    """The message is refused: put back (``requeue``) or dead-lettered with ``reason``."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Retry(TaskPredicate):
    """The task is to run again.

    ``when`` is seconds from now, or a moment (``datetime``); ``exc`` the error that caused it.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: float | datetime.datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
        **kwargs: Any,
    ) -> None:
        self.message = message
        self.exc = exc if isinstance(exc, BaseException) else None
        self.excs = exc if isinstance(exc, str) else (repr(exc) if exc is not None else None)
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        super().__init__(message, exc, when)

    def humanize(self) -> str:
        if isinstance(self.when, (int, float)):
            return f"in {self.when}s"
        return f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        return f"Retry {self.humanize()}" + (f": {self.excs}" if self.excs else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.exc or self.excs, self.when)


ImproperlyConfigured = ConfigurationError
"""Celery's name for :class:`ConfigurationError`."""
