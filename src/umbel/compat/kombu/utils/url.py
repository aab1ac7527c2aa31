"""``kombu.utils.url``: parts of broker URLs."""

from functools import partial
from urllib.parse import quote

from umbel.urls import redact as maybe_sanitize_url

safequote = partial(quote, safe="")
"""Quote a user name, password or virtual host for a URL."""

__all__ = ["maybe_sanitize_url", "safequote"]
