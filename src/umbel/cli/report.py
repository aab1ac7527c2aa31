"""``umbel report``: what a bug report should say."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import click

from umbel.cli.output import write_json, write_pairs

if TYPE_CHECKING:
    from umbel.cli import Context

LIBRARIES = (
    "msgspec", "click", "rich", "SQLAlchemy", "psutil", "redis", "hiredis", "pika", "psycopg", "PyMySQL", "PyYAML",
    "brotli", "zstandard", "pydantic", "celery", "kombu",
)  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_obj
def report(context: Context, as_json: bool) -> None:
    """Show versions, broker, result backend and changed settings, fit to be pasted into a bug report.

    Passwords and keys are masked. Nothing is connected.

    \b
    Examples:
      umbel report
      umbel -A proj report --json
    """
    from umbel import __version__
    from umbel.config import DECLARED, DEFAULT
    from umbel.config.masking import masked
    from umbel.urls import redact

    app = context.app
    conf = app.conf
    broker, backend = app.broker, app.backend
    changed = {name: masked(held, conf[name]) for name, held in DECLARED.items() if conf.origin(name) != DEFAULT}
    document: dict[str, Any] = {
        "umbel": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs",
        "libraries": dict(_libraries()),
        "app": context.spec or None,
        "broker": f"{redact(broker.url)} ({type(broker).__name__})",
        "results": f"{redact(backend.url)} ({type(backend).__name__})",
        "settings": changed,
    }
    if as_json:
        write_json(document)
        return
    for name in ("libraries", "settings"):
        document[name] = "\n".join(f"{key} {_text(value)}" for key, value in document[name].items()) or None
    write_pairs(document.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) and " " not in value and value else repr(value)


def _libraries() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name in LIBRARIES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found
