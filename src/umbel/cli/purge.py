"""``umbel purge``: remove waiting messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from umbel.cli.output import count_of, write_json
from umbel.cli.selecting import agree, chosen_queues, configured_queues

if TYPE_CHECKING:
    from umbel.cli import Context


@click.command()
@click.argument("queues", nargs=-1)
@click.option("-Q", "--queues", "more", multiple=True, metavar="A,B", help="The same as QUEUES.")
@click.option("-X", "--exclude-queues", "exclude", multiple=True, metavar="A,B", help="Queues to leave as they are.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Write the numbers of removed messages as JSON.")
@click.pass_obj
def purge(
    context: Context,
    queues: tuple[str, ...],
    more: tuple[str, ...],
    exclude: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Remove all ready and delayed messages from QUEUES, by default from all configured ones.

    Running tasks, parked messages and dead letters stay. There is no way back.

    \b
    Examples:
      umbel -A proj purge
      umbel -A proj purge emails reports --force
      umbel -A proj purge -X emails
    """
    app = context.app
    try:
        named = (*queues, *more)
        names = chosen_queues(app, named) if named else configured_queues(app)
        kept = chosen_queues(app, exclude) if exclude else []
        names = [name for name in names if name not in kept]
        sizes = [app.broker.size(name) for name in names]
        waiting = sum(max(0, size.ready) + max(0, size.delayed) for size in sizes)
        agree(f"Remove {count_of(waiting, 'waiting message')} from {', '.join(names)}?", force)
        removed = {name: app.broker.purge(name) for name in names}
    finally:
        app.close()
    if as_json:
        write_json(removed)
        return
    for name, number in removed.items():
        click.echo(f"{name}: {count_of(number, 'message')} removed")
