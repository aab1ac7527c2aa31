"""TLS as users describe it: files, how strictly to check, ciphers; the same words for every driver with own sockets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from umbel.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

NAMES = frozenset(
    {"cert_reqs", "ca_certs", "ca_path", "ca_data", "certfile", "keyfile", "password", "check_hostname", "ciphers"}
)
"""The options that ``context_of`` knows."""

_FILES = ("ca_certs", "ca_path", "certfile", "keyfile")


def context_of(options: Mapping[str, Any]) -> ssl.SSLContext:
    """What ``options`` (see ``NAMES``) describe; without any, the system's authorities are trusted.

    ``cert_reqs`` is one of ``required`` (default), ``optional`` and ``none``, or the constant of ``ssl``. Raises
    ConfigurationError, naming the files, when they cannot be used.
    """
    import ssl

    try:
        context = ssl.create_default_context(
            cafile=options.get("ca_certs"), capath=options.get("ca_path"), cadata=options.get("ca_data")
        )
        mode = _mode(options.get("cert_reqs", "required"))
        checked = str(options.get("check_hostname", "true")).lower() not in ("false", "0", "no")
        context.check_hostname = checked and mode is not ssl.CERT_NONE
        context.verify_mode = mode
        if options.get("certfile"):
            context.load_cert_chain(options["certfile"], options.get("keyfile"), options.get("password") or "")
        if options.get("ciphers"):
            context.set_ciphers(options["ciphers"])
    except OSError as error:
        files = ", ".join(f"{name} {options[name]!r}" for name in _FILES if options.get(name))
        raise ConfigurationError(f"the TLS options cannot be used ({files or 'no files'}): {error}") from error
    return context


def _mode(given: Any) -> ssl.VerifyMode:
    import ssl

    modes = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
    modes |= {str(mode.value): mode for mode in modes.values()}
    word = str(given).lower().rpartition("cert_")[2]
    if word not in modes:
        raise ConfigurationError(f"cert_reqs is one of required, optional and none, not {given!r}")
    return modes[word]
