"""Tools for the tests of applications: real workers in threads, a deterministic one, a virtual clock, assertions.

    from umbel.testing import InProcessWorker, assert_enqueued, start_worker

Names are imported when they are first used. The fixtures for pytest are in ``umbel.testing.plugin``, which pytest finds
by itself; those under Celery's names in ``umbel.testing.celery_fixtures``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umbel.testing.asserting import Enqueued as Enqueued
    from umbel.testing.asserting import assert_enqueued as assert_enqueued
    from umbel.testing.asserting import assert_not_enqueued as assert_not_enqueued
    from umbel.testing.asserting import enqueued as enqueued
    from umbel.testing.asserting import waiting as waiting
    from umbel.testing.in_process import InProcessWorker as InProcessWorker
    from umbel.testing.in_process import Run as Run
    from umbel.testing.threaded import WorkerInThread as WorkerInThread
    from umbel.testing.threaded import start_worker as start_worker
    from umbel.testing.virtual_clock import VirtualClock as VirtualClock

_MODULES = {
    "Enqueued": "asserting",
    "assert_enqueued": "asserting",
    "assert_not_enqueued": "asserting",
    "enqueued": "asserting",
    "waiting": "asserting",
    "InProcessWorker": "in_process",
    "Run": "in_process",
    "WorkerInThread": "threaded",
    "start_worker": "threaded",
    "VirtualClock": "virtual_clock",
}

__all__ = [  # noqa: RUF022 - in the order of the documentation
    "start_worker",
    "WorkerInThread",
    "InProcessWorker",
    "Run",
    "VirtualClock",
    "assert_enqueued",
    "assert_not_enqueued",
    "enqueued",
    "waiting",
    "Enqueued",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
