"""``umbel queues``: what is in the queues."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from umbel.cli.output import coloured, on_terminal, rich_table, write_json, write_table
from umbel.cli.selecting import chosen_queues

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.brokers.base import QueueSize
    from umbel.cli import Context

COLUMNS = ("queue", "ready", "delayed", "held", "parked", "dead", "parked tasks")


class _Line(Struct):
    name: str
    size: QueueSize
    parked: dict[str, int]


@click.command()
@click.argument("queues", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Write JSON; with --watch one line each time.")
@click.option(
    "--watch", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Look again every so often, until ctrl-C."
)
@click.pass_obj
def queues(context: Context, queues: tuple[str, ...], as_json: bool, watch: float | None) -> None:
    """Show how many messages are in QUEUES, by default in all that are known.

    ready: could run now; delayed: have a moment to wait for; held: running, or about to; parked: no worker that is
    there knows the task; dead: ended without success, see "umbel dlq". "?" is a number that the broker cannot tell.

    \b
    Examples:
      umbel -A proj queues
      umbel -A proj queues emails --watch 2
      umbel -A proj queues --json
    """
    app = context.app
    try:
        if watch is None:
            _write(_look(app, queues), as_json)
        else:
            _watch(app, queues, as_json, watch)
    finally:
        app.close()


def _look(app: Umbel, queues: Sequence[str]) -> list[_Line]:
    broker = app.broker
    lines: list[_Line] = []
    for name in chosen_queues(app, queues):
        size = broker.size(name)
        lines.append(_Line(name, size, broker.parked(name) if size.parked else {}))
    return lines


def _write(lines: list[_Line], as_json: bool, indent: int = 2) -> None:
    if as_json:
        write_json([_document(line) for line in lines], indent=indent)
    else:
        write_table(COLUMNS, [_row(line) for line in lines])


def _watch(app: Umbel, queues: Sequence[str], as_json: bool, seconds: float) -> None:
    try:
        if on_terminal() and not as_json:
            _watch_live(app, queues, seconds)
        while True:
            _write(_look(app, queues), as_json, indent=0)
            sys.stdout.flush()
            time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _watch_live(app: Umbel, queues: Sequence[str], seconds: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, no_color=not coloured())
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(rich_table(COLUMNS, [_row(line) for line in _look(app, queues)]), refresh=True)
            time.sleep(seconds)


def _numbers(size: QueueSize) -> dict[str, int | None]:
    counts = {
        "ready": size.ready,
        "delayed": size.delayed,
        "held": size.held,
        "parked": size.parked,
        "dead": size.dead,
    }
    return {name: None if count < 0 else count for name, count in counts.items()}


def _row(line: _Line) -> list[Any]:
    counts = ["?" if count is None else count for count in _numbers(line.size).values()]
    parked = ", ".join(f"{task or '(unnamed)'} {count}" for task, count in sorted(line.parked.items()))
    return [line.name, *counts, parked]


def _document(line: _Line) -> dict[str, Any]:
    return {"queue": line.name, **_numbers(line.size), "parked_tasks": line.parked}
