"""``celery.app.utils``: settings, and applications by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from umbel.app import Umbel
from umbel.bug_report import bugreport
from umbel.config import Settings
from umbel.loading import find_app as _find_app

__all__ = ["Settings", "appstr", "bugreport", "filter_hidden_settings", "find_app", "sanitize_url"]

_MASK = "********"
_HIDDEN = re.compile("API|TOKEN|KEY|SECRET|PASS|SIGNATURE|DATABASE", re.IGNORECASE)
_URL = re.compile(r"[\w+.-]+://")


def find_app(app: Any) -> Umbel:
    """The application that ``app`` is, or names as ``-A`` does. Raises ConfigurationError."""
    return app if isinstance(app, Umbel) else _find_app(str(app))


def appstr(app: Umbel) -> str:
    """How an application is shown."""
    return f"{app.main or '__main__'} at {id(app):#x}"


def sanitize_url(url: str, mask: str = _MASK) -> str:
    """A URL with ``mask`` for its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:{mask}@{host}").geturl()


def filter_hidden_settings(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Settings to be shown: what has a name such as ``secret`` or ``password`` is masked, and passwords in URLs."""
    return {name: _MASK if _HIDDEN.search(name) else _shown(value) for name, value in conf.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return filter_hidden_settings(cast("Mapping[str, Any]", value))
    return sanitize_url(value) if isinstance(value, str) and _URL.match(value) else value
