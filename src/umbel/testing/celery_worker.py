"""What ``celery.contrib.testing.worker`` has beside ``start_worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umbel.app import Umbel


def setup_app_for_worker(app: Umbel, loglevel: str | int, logfile: str) -> None:
    """Make the application ready for a worker in this process, and the current one; logging is left alone."""
    app.finalize()
    app.set_current()
