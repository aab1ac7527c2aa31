"""``celery.contrib.testing.app``: applications for tests."""

from typing import Any

from umbel.compat.missing import refuse
from umbel.testing.apps import TestApp, Trap, set_trap, setup_default_app

__all__ = ["TestApp", "Trap", "set_trap", "setup_default_app"]


def __getattr__(name: str) -> Any:
    return refuse("celery.contrib.testing.app", name)
