"""``umbel list``: what the application has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from umbel.cli.output import write_json, write_table

if TYPE_CHECKING:
    from umbel.cli import Context

_COLUMNS = ("queue", "exchange", "type", "routing_key")


@click.group("list")
def listing() -> None:
    """List what the application has."""


@listing.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_obj
def bindings(context: Context, as_json: bool) -> None:
    """Show by which exchange and routing key each configured queue gets its messages.

    An exchange without a name of its own has the queue's. Nothing is connected; what is in queues, and queues that are
    not configured, are shown by "umbel queues".

    \b
    Examples:
      umbel -A proj list bindings
      umbel -A proj list bindings --json
    """
    app = context.app
    app.import_task_modules()
    rows = [
        (name, queue.exchange_name, queue.exchange.type, queue.binding_key)
        for name, queue in app.routes.queues().items()
    ]
    if as_json:
        write_json([dict(zip(_COLUMNS, row, strict=True)) for row in rows])
    else:
        write_table([column.replace("_", " ") for column in _COLUMNS], rows)
