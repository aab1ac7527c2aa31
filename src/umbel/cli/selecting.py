"""Which queues a command is about: those named, or all that are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from umbel.app import Umbel


def configured_queues(app: Umbel) -> list[str]:
    """Names of the queues that a worker of this application consumes."""
    return [queue.name for queue in app.consume_queues(None, None)]


def known_queues(app: Umbel) -> list[str]:
    """Names of the configured queues and of those that the broker has, sorted."""
    return sorted({*configured_queues(app), *app.broker.queues()})


def chosen_queues(app: Umbel, names: Sequence[str]) -> list[str]:
    """``names``, each of which may be several joined by commas; all known queues when there are none."""
    split = [name.strip() for text in names for name in text.split(",") if name.strip()]
    return list(dict.fromkeys(split)) or known_queues(app)


def agree(question: str, force: bool) -> None:
    """Ask unless ``force``; ends the command when the answer is no, or when nobody can be asked."""
    if not force:
        click.confirm(question, abort=True, err=True)
