"""``celery.contrib.testing.app``: applications for tests."""

from __future__ import annotations

from umbel.application.logs import Logging
from umbel.testing.apps import TestApp, Trap, set_trap, setup_default_app

__all__ = ["TestApp", "Trap", "UnitLogging", "set_trap", "setup_default_app"]


class UnitLogging(Logging):
    """Counts as set up, so that tests log as they do without it."""

    @property
    def already_setup(self) -> bool:
        return True
