"""``umbel demo``: real work on a worker of its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from umbel.cli.output import coloured, count_of, on_terminal

if TYPE_CHECKING:
    from umbel.cli import Context

_INTERRUPTED = 130


@click.command()
@click.option("--broker", metavar="URL", help="Broker to use [default: SQLite in a temporary directory].")
@click.option("--backend", metavar="URL", help="Result store to use [default: the natural one of the broker].")
@click.option("--keep", is_flag=True, help="Keep the directory with pictures, database and the worker's log.")
@click.pass_obj
def demo(context: Context, broker: str | None, backend: str | None, keep: bool) -> None:
    """Run real tasks: count words, paint pictures, shrink them, fail and retry.

    Starts a worker of its own, shows how far it is and what came out, and leaves nothing behind. Needs no server.

    \b
    Examples:
      umbel demo
      umbel demo --keep
      umbel demo --broker redis://localhost:6379/0
      umbel demo --broker amqp://guest:guest@localhost:5672/ --backend redis://localhost:6379/0
    """
    from umbel.demo.display import PlainDisplay, TerminalDisplay
    from umbel.demo.run import run_demo

    display = TerminalDisplay(coloured()) if on_terminal() else PlainDisplay()
    try:
        with display:
            summary = run_demo(display, broker or context.broker, backend or context.backend, keep)
    except KeyboardInterrupt:
        click.echo("umbel: interrupted; everything is cleaned up", err=True)
        sys.exit(_INTERRUPTED)
    rate = summary.tasks / summary.seconds
    click.echo(
        f"\n{count_of(summary.tasks, 'task')} in {summary.seconds:.1f} s, {rate:,.0f} tasks/s; "
        f"{summary.retries} retries, no failures; nothing is left running"
    )
