"""``celery.app.utils``: settings, and applications by name."""

from __future__ import annotations

from typing import Any

from umbel.app import Umbel
from umbel.bug_report import bugreport
from umbel.config import Settings
from umbel.loading import find_app as _find_app

__all__ = ["Settings", "appstr", "bugreport", "find_app"]


def find_app(app: Any) -> Umbel:
    """The application that ``app`` is, or names as ``-A`` does. Raises ConfigurationError."""
    return app if isinstance(app, Umbel) else _find_app(str(app))


def appstr(app: Umbel) -> str:
    """How an application is shown."""
    return f"{app.main or '__main__'} at {id(app):#x}"
