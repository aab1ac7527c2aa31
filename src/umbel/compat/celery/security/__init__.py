"""``celery.security``: signed messages. Umbel does not sign messages yet, and says so when it is asked to."""

from __future__ import annotations

from typing import Any, NoReturn

from umbel.errors import ConfigurationError

__all__ = ["setup_security"]


def setup_security(
    allowed_serializers: Any = None,
    key: str | None = None,
    key_password: str | bytes | None = None,
    cert: str | None = None,
    store: str | None = None,
    digest: str | None = None,
    serializer: str = "json",
    app: Any = None,
) -> NoReturn:
    """Raises ConfigurationError: messages that should be signed must not be sent unsigned."""
    raise ConfigurationError(
        "Umbel does not sign messages yet, so setup_security cannot be obeyed; "
        "set accept_content to what is safe to read (the default, json, is)"
    )
