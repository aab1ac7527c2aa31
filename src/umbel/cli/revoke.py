"""``umbel revoke``: see to it that tasks are not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from umbel.cli.output import count_of

if TYPE_CHECKING:
    from umbel.cli import Context


@click.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("-t", "--terminate", is_flag=True, help="End those that run, too.")
@click.option(
    "-s", "--signal", default="SIGTERM", show_default=True, help="Signal that ends them in prefork pools, with -t."
)
@click.option("-d", "--destination", multiple=True, metavar="NODE", help="Only this worker heeds it; may be repeated.")
@click.pass_obj
def revoke(context: Context, ids: tuple[str, ...], terminate: bool, signal: str, destination: tuple[str, ...]) -> None:
    """See to it that the tasks with these IDS are not run, by any worker that runs now or starts later.

    Tasks that run are left alone without --terminate.

    \b
    Examples:
      umbel -A proj revoke 5f2c7c1e-8a4e-4c0a-9d43-0d1b0d7a5a11
      umbel -A proj revoke 5f2c7c1e-8a4e-4c0a-9d43-0d1b0d7a5a11 --terminate --signal KILL
    """
    app = context.app
    try:
        app.control.revoke(list(ids), destination or None, terminate, signal)
    finally:
        app.close()
    click.echo(f"{count_of(len(set(ids)), 'task')} revoked")
