"""``celery.app.utils``: settings, and applications by name."""

from __future__ import annotations

import platform
from typing import Any

from umbel import __version__
from umbel.app import Umbel
from umbel.config import Settings
from umbel.loading import find_app as _find_app
from umbel.urls import redact

__all__ = ["Settings", "appstr", "bugreport", "find_app"]


def find_app(app: Any) -> Umbel:
    """The application that ``app`` is, or names as ``-A`` does. Raises ConfigurationError."""
    return app if isinstance(app, Umbel) else _find_app(str(app))


def appstr(app: Umbel) -> str:
    """How an application is shown."""
    return f"{app.main or '__main__'} at {id(app):#x}"


def bugreport(app: Umbel) -> str:
    """Versions, drivers and changed settings, without passwords; nothing is connected."""
    from umbel.config import DECLARED
    from umbel.config.masking import masked

    settings = [f"{name}: {masked(DECLARED[name], value)!r}" for name, value in app.conf.changed().items()]
    return "\n".join(
        [
            f"software -> umbel:{__version__} py:{platform.python_version()} ({platform.python_implementation()})",
            f"platform -> system:{platform.system()} arch:{platform.machine()} kernel:{platform.release()}",
            f"settings -> transport:{redact(app.broker.url)} results:{redact(app.backend.url)}",
            "",
            *settings,
        ]
    )
