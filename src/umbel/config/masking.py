"""Values as they may be shown: without passwords and keys."""

import re
from collections.abc import Mapping
from typing import Any, cast

from umbel.config.declaring import Setting

MASK = "********"
SECRET_WORDS = ("password", "passwd", "secret", "token", "credential", "access_key", "api_key")

BETWEEN_URLS = r"[;,](?=[a-zA-Z][\w+.-]*://)"
USERINFO = r"(?s)(://[^:@/]*:)(.*)(@)"
PARAMETER = rf"(?i)([?&][^=&]*(?:{'|'.join(SECRET_WORDS)})[^=&]*=)[^&]*"


def masked(declared: Setting, value: Any) -> Any:
    """``value`` with secrets replaced: all of it for a secret setting, otherwise passwords in URLs and in dicts."""
    if declared.secret and value is not None:
        return MASK
    return _masked(value)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _masked_urls(value) if "://" in value else value
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {key: MASK if _is_secret(key) and held is not None else _masked(held) for key, held in items}
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in cast("list[Any]", value)]
    return value


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and any(word in key.lower() for word in SECRET_WORDS)


def _masked_urls(text: str) -> str:
    urls = re.split(BETWEEN_URLS, text)
    return ";".join(_masked_url(url) for url in urls)


def _masked_url(url: str) -> str:
    return re.sub(PARAMETER, rf"\g<1>{MASK}", re.sub(USERINFO, rf"\g<1>{MASK}\g<3>", url))
