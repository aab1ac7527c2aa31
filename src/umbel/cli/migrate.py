"""``umbel migrate``: waiting tasks of one broker to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from umbel.cli.output import count_of

if TYPE_CHECKING:
    from umbel.cli import Context


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DESTINATION")
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Most messages [default: all].")
@click.option(
    "-t", "--timeout", type=float, default=1.0, show_default=True, help="Seconds after which a queue counts as empty."
)
@click.option("-a", "--ack-messages", is_flag=True, help="Remove from SOURCE what DESTINATION has.")
@click.option("-T", "--tasks", metavar="A,B", default="", help="Only messages of these tasks.")
@click.option("-Q", "--queues", metavar="A,B:C", default="", help="Only these queues, B under the new name C.")
@click.option("-F", "--forever", is_flag=True, help="Go on with what arrives, until interrupted.")
@click.pass_obj
def migrate(
    context: Context,
    source: str,
    destination: str,
    limit: int | None,
    timeout: float,
    ack_messages: bool,
    tasks: str,
    queues: str,
    forever: bool,
) -> None:
    """Send the waiting tasks of the broker SOURCE, a URL, to the broker DESTINATION, unchanged.

    They stay in SOURCE as well, unless --ack-messages is given. Delayed messages, those that workers hold and dead
    letters are left.

    \b
    Examples:
      umbel migrate redis://old amqp://new --ack-messages
      umbel migrate redis://old redis://new --queues emails,celery:imported --tasks proj.add -a
    """
    from umbel.app import Umbel
    from umbel.migrating import Moved
    from umbel.migrating import migrate as send

    pairs = (name.partition(":") for name in _parts(queues))
    names = {old: new or old for old, _, new in pairs}
    moved = Moved()
    with Umbel(broker=source, set_as_current=False) as old, Umbel(broker=destination, set_as_current=False) as new:
        try:
            send(
                old,
                new,
                queues=names or None,
                tasks=_parts(tasks) or None,
                copy=not ack_messages,
                limit=limit,
                timeout=timeout,
                forever=forever,
                moved=moved,
            )
        except KeyboardInterrupt:
            if not forever:
                raise
        finally:
            click.echo(f"{count_of(moved.moved, 'message')} {'moved' if ack_messages else 'copied'}")
            if moved.delayed:
                click.echo(f"{count_of(moved.delayed, 'delayed message')} left: their time has not come", err=True)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
