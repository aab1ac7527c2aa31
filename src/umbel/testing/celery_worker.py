"""``celery.contrib.testing.worker``: ``start_worker``, and what stands beside it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from umbel.testing.threaded import WorkerInThread as TestWorkController
from umbel.testing.threaded import start_worker

if TYPE_CHECKING:
    from umbel.app import Umbel

__all__ = ["TestWorkController", "setup_app_for_worker", "start_worker"]


def setup_app_for_worker(app: Umbel, loglevel: str | int, logfile: str) -> None:
    """Make the application ready for a worker in this process; logging is left alone."""
    app.finalize()
    app.set_current()
