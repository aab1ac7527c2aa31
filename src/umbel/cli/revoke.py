"""``umbel revoke``: see to it that tasks are not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from umbel.cli.output import count_of

if TYPE_CHECKING:
    from umbel.cli import Context


@click.command()
@click.argument("ids", nargs=-1)
@click.option("--stamp", "stamps", multiple=True, metavar="NAME=VALUE", help="All with this stamp; may be repeated.")
@click.option("-t", "--terminate", is_flag=True, help="End those that run, too.")
@click.option(
    "-s", "--signal", default="SIGTERM", show_default=True, help="Signal that ends them in prefork pools, with -t."
)
@click.option("-d", "--destination", multiple=True, metavar="NODE", help="Only this worker heeds it; may be repeated.")
@click.pass_obj
def revoke(
    context: Context,
    ids: tuple[str, ...],
    stamps: tuple[str, ...],
    terminate: bool,
    signal: str,
    destination: tuple[str, ...],
) -> None:
    """See to it that the tasks with these IDS are not run, by any worker that runs now or starts later.

    Tasks that run are left alone without --terminate. Values of stamps are texts.

    \b
    Examples:
      umbel -A proj revoke 5f2c7c1e-8a4e-4c0a-9d43-0d1b0d7a5a11
      umbel -A proj revoke 5f2c7c1e-8a4e-4c0a-9d43-0d1b0d7a5a11 --terminate --signal KILL
      umbel -A proj revoke --stamp tenant=acme
    """
    if not ids and not stamps:
        raise click.UsageError("name tasks by their IDS, or by --stamp NAME=VALUE")
    app = context.app
    try:
        app.control.revoke(list(ids), destination or None, terminate, signal)
        app.control.revoke_by_stamped_headers(list(stamps), destination or None, terminate, signal)
    finally:
        app.close()
    counts = [(len(set(ids)), "task"), (len(set(stamps)), "stamp")]
    click.echo(f"{' and '.join(count_of(count, what) for count, what in counts if count)} revoked")
