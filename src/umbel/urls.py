"""Broker and result-store addresses: normalised, taken apart, and shown without their secrets.

Every error text, log line and report that names a server uses :func:`redact`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct, field

from umbel.errors import ConfigurationError

MASK = "***"

_ALIASES = {"pyamqp": "amqp", "librabbitmq": "amqp", "postgres": "postgresql"}
_WRAPPERS = ("db+", "sqla+", "cache+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*\Z")
_SECRET_PARAMETER = re.compile(r"(?i)((?:^|[?&;])[^=&;?]*(?:passw|pwd|secret|token)[^=&;?]*=)[^&;]*")


class URL(Struct, frozen=True):
    """An address in parts; user name, password, path and parameters are unquoted. ``path`` has no leading slash."""

    scheme: str
    host: str = ""
    port: int | None = None
    username: str = ""
    password: str = ""
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict[str, str])


def normalise(url: str) -> str:
    """``url`` with its scheme in lower case, under Umbel's own name for it.

    A bare word is a scheme (``memory`` is ``memory://``); Celery's wrappers ``db+``, ``sqla+`` and ``cache+`` are
    dropped. Raises ConfigurationError when there is no scheme.
    """
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not _SCHEME.match(scheme):
        raise ConfigurationError(f"not a URL: {redact(url)!r} (expected something like redis://localhost:6379/0)")
    for wrapper in _WRAPPERS:
        scheme = scheme.removeprefix(wrapper)
    family, plus, dialect = scheme.partition("+")
    return f"{_ALIASES.get(family, family)}{plus}{dialect}://{rest if separator else ''}"


def scheme_of(url: str) -> str:
    """The scheme of a normalised URL, with its dialect (``redis+socket``)."""
    return url.partition("://")[0]


def parse(url: str) -> URL:
    """The parts of ``url``. Raises ConfigurationError when the port is no number."""
    normal = normalise(url)
    parts = urlsplit(normal)
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"the port of {redact(url)!r} is not a number") from error
    return URL(
        scheme=scheme_of(normal),
        host=unquote(parts.hostname or ""),
        port=port,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        path=unquote(parts.path.removeprefix("/")),
        query=dict(parse_qsl(parts.query, keep_blank_values=True)),
    )


def redact(url: str) -> str:
    """``url`` fit to be shown: passwords, and parameters that look like secrets, are replaced by ``***``.

    Never fails, also takes several addresses joined by ``;``, and hides too much rather than too little when a
    password has characters in it that should have been quoted.
    """
    return ";".join(_redact_one(part) for part in split(url))


def split(url: str) -> list[str]:
    """The addresses that ``;`` joins in ``url``."""
    return re.split(r";(?=[A-Za-z][A-Za-z0-9+.\-]*://)", url)


def _redact_one(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    end = _end_of_credentials(rest)
    if end >= 0:
        username, colon, _ = rest[:end].partition(":")
        rest = (f"{username}:{MASK}" if colon else username) + rest[end:]
    return scheme + separator + _SECRET_PARAMETER.sub(rf"\g<1>{MASK}", rest)


def _end_of_credentials(rest: str) -> int:
    """Where the ``@`` stands that ends user name and password, -1 when there are none."""
    before_query, _, query = rest.partition("?")
    authority = re.split(r"[/#]", before_query, maxsplit=1)[0]
    if ":" not in authority and "@" not in authority:
        return -1
    port = authority.rpartition(":")[2]
    if "@" in query and ("=" not in query.rpartition("@")[0] or ("@" not in before_query and not port.isdigit())):
        return rest.rfind("@")
    return before_query.rfind("@")
