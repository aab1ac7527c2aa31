"""Umbel: a distributed task queue.

    from umbel import Umbel

    app = Umbel("proj", broker="redis://localhost")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    add.delay(2, 2).get()

Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from umbel.app import Umbel as Umbel
    from umbel.autoscaling import Autoscaler as Autoscaler
    from umbel.bug_report import bugreport as bugreport
    from umbel.canvas import Signature as Signature
    from umbel.canvas import StampingVisitor as StampingVisitor
    from umbel.canvas import chain as chain
    from umbel.canvas import chord as chord
    from umbel.canvas import chunks as chunks
    from umbel.canvas import group as group
    from umbel.canvas import maybe_signature as maybe_signature
    from umbel.canvas import signature as signature
    from umbel.canvas import subtask as subtask
    from umbel.canvas import xmap as xmap
    from umbel.canvas import xstarmap as xstarmap
    from umbel.current import current_app as current_app
    from umbel.current import current_task as current_task
    from umbel.errors import DuplicateTaskError as DuplicateTaskError
    from umbel.errors import Ignore as Ignore
    from umbel.errors import MaxRetriesExceededError as MaxRetriesExceededError
    from umbel.errors import Reject as Reject
    from umbel.errors import Retry as Retry
    from umbel.errors import SoftTimeLimitExceeded as SoftTimeLimitExceeded
    from umbel.errors import TimeoutError as TimeoutError
    from umbel.errors import UmbelError as UmbelError
    from umbel.groups import GroupResult as GroupResult
    from umbel.groups import ResultSet as ResultSet
    from umbel.joining import allow_join_result as allow_join_result
    from umbel.limits.unique import Unique as Unique
    from umbel.message import new_id
    from umbel.middleware import Middleware as Middleware
    from umbel.queues import Exchange as Exchange
    from umbel.queues import Queue as Queue
    from umbel.registry import shared_task as shared_task
    from umbel.request import Request as Request
    from umbel.result import AsyncResult as AsyncResult
    from umbel.result import EagerResult as EagerResult
    from umbel.task import Task as Task

    uuid = new_id

_HOMES = {
    "Umbel": "app",
    "Autoscaler": "autoscaling",
    "bugreport": "bug_report",
    "chain": "canvas",
    "chord": "canvas",
    "chunks": "canvas",
    "group": "canvas",
    "xmap": "canvas",
    "xstarmap": "canvas",
    "current_app": "current",
    "current_task": "current",
    "DuplicateTaskError": "errors",
    "Ignore": "errors",
    "MaxRetriesExceededError": "errors",
    "Reject": "errors",
    "Retry": "errors",
    "SoftTimeLimitExceeded": "errors",
    "TimeoutError": "errors",
    "UmbelError": "errors",
    "GroupResult": "groups",
    "ResultSet": "groups",
    "Unique": "limits.unique",
    "uuid": "message",
    "Middleware": "middleware",
    "Exchange": "queues",
    "Queue": "queues",
    "shared_task": "registry",
    "Request": "request",
    "AsyncResult": "result",
    "EagerResult": "result",
    "allow_join_result": "joining",
    "Signature": "canvas",
    "StampingVisitor": "canvas",
    "maybe_signature": "canvas",
    "signature": "canvas",
    "subtask": "canvas",
    "Task": "task",
}
_ALIASES = {"uuid": "new_id"}

__all__ = [
    "AsyncResult",
    "Autoscaler",
    "DuplicateTaskError",
    "EagerResult",
    "Exchange",
    "GroupResult",
    "Ignore",
    "MaxRetriesExceededError",
    "Middleware",
    "Queue",
    "Reject",
    "Request",
    "ResultSet",
    "Retry",
    "Signature",
    "SoftTimeLimitExceeded",
    "StampingVisitor",
    "Task",
    "TimeoutError",
    "Umbel",
    "UmbelError",
    "Unique",
    "__version__",
    "allow_join_result",
    "bugreport",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"umbel.{home}"), _ALIASES.get(name, name))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
