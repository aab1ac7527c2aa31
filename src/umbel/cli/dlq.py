"""``umbel dlq``: list, show, replay and purge dead-lettered messages."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from umbel.cli.outcomes import shown
from umbel.cli.output import count_of, write_json, write_pairs, write_table
from umbel.cli.selecting import agree, chosen_queues

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.brokers.base import DeadLetter
    from umbel.cli import Context

_MOST = 100_000


@click.group()
def dlq() -> None:
    """Look at messages that ended without success, and send them again.

    A message is dead-lettered when its task killed its worker too often, when it cannot be read, or when the task
    refused it. It stays for a week (setting dead_letter_expires) and is named by its id, or by the id of its task.

    \b
    Examples:
      umbel -A proj dlq list
      umbel -A proj dlq show 5f0c1c34-8f3a-4a3b-9a39-0d1f0d1c6f53
      umbel -A proj dlq replay --all --queue emails
      umbel -A proj dlq purge 5f0c1c34-8f3a-4a3b-9a39-0d1f0d1c6f53
    """


_queue_option = click.option(
    "-Q", "--queue", "queues", multiple=True, metavar="A,B", help="Only these queues [default: all known]."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
_all_option = click.option("--all", "everything", is_flag=True, help="All dead letters of these queues.")


@dlq.command("list")
@_queue_option
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Most of each queue.")
@_json_option
@click.pass_obj
def list_letters(context: Context, queues: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List dead letters, the oldest of each queue first.

    \b
    Examples:
      umbel -A proj dlq list
      umbel -A proj dlq list --queue emails --limit 1000 --json
    """
    app = context.app
    try:
        letters = [letter for name in chosen_queues(app, queues) for letter in app.broker.dead_letters(name, limit)]
    finally:
        app.close()
    if as_json:
        write_json([_summary(letter) for letter in letters])
    else:
        rows = [[*_summary(letter).values()] for letter in letters]
        write_table(("id", "queue", "task", "task id", "when", "deliveries", "reason"), rows)


@dlq.command()
@click.argument("letter_id", metavar="ID")
@_queue_option
@_json_option
@click.pass_obj
def show(context: Context, letter_id: str, queues: tuple[str, ...], as_json: bool) -> None:
    """Show one dead letter with its headers and arguments.

    \b
    Example:
      umbel -A proj dlq show 5f0c1c34-8f3a-4a3b-9a39-0d1f0d1c6f53
    """
    app = context.app
    try:
        (letter,) = _find(app, queues, [letter_id])
        document = {**_summary(letter), **_contents(app, letter)}
    finally:
        app.close()
    if as_json:
        write_json(document)
    else:
        write_pairs((name, value if isinstance(value, str) else shown(value)) for name, value in document.items())


@dlq.command()
@click.argument("ids", nargs=-1)
@_all_option
@_queue_option
@click.pass_obj
def replay(context: Context, ids: tuple[str, ...], everything: bool, queues: tuple[str, ...]) -> None:
    """Send the dead letters IDS, or --all, to their queue again, with their deliveries counted from 0.

    \b
    Examples:
      umbel -A proj dlq replay 5f0c1c34-8f3a-4a3b-9a39-0d1f0d1c6f53
      umbel -A proj dlq replay --all --queue emails
    """
    app = context.app
    try:
        number = _apply(app, app.broker.replay, ids, everything, queues)
    finally:
        app.close()
    click.echo(f"{count_of(number, 'message')} sent again")


@dlq.command()
@click.argument("ids", nargs=-1)
@_all_option
@_queue_option
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(context: Context, ids: tuple[str, ...], everything: bool, queues: tuple[str, ...], force: bool) -> None:
    """Remove the dead letters IDS, or --all. There is no way back.

    \b
    Examples:
      umbel -A proj dlq purge 5f0c1c34-8f3a-4a3b-9a39-0d1f0d1c6f53
      umbel -A proj dlq purge --all --queue emails --force
    """
    app = context.app
    try:
        _check_choice(ids, everything)
        what = count_of(len(ids), "dead letter") if ids else "all dead letters"
        agree(f"Remove {what} of {', '.join(chosen_queues(app, queues))}?", force)
        number = _apply(app, app.broker.purge_dead, ids, everything, queues)
    finally:
        app.close()
    click.echo(f"{count_of(number, 'message')} removed")


def _check_choice(ids: Sequence[str], everything: bool) -> None:
    if bool(ids) == everything:
        raise click.UsageError("give either ids or --all")


def _apply(
    app: Umbel,
    action: Callable[[str, list[str] | None], int],
    ids: Sequence[str],
    everything: bool,
    queues: Sequence[str],
) -> int:
    """Do ``action`` with the chosen letters of each queue; how many in all."""
    _check_choice(ids, everything)
    if everything:
        return sum(action(name, None) for name in chosen_queues(app, queues))
    found: dict[str, list[str]] = {}
    for letter in _find(app, queues, ids):
        found.setdefault(letter.queue, []).append(letter.id)
    return sum(action(name, letters) for name, letters in found.items())


def _find(app: Umbel, queues: Sequence[str], ids: Sequence[str]) -> list[DeadLetter]:
    """The dead letters of these ids, their own or their tasks'. Raises UsageError when one is missing."""
    wanted = dict.fromkeys(ids)
    found: dict[str, DeadLetter] = {}
    for name in chosen_queues(app, queues):
        for letter in app.broker.dead_letters(name, _MOST):
            for key in (letter.id, letter.message.id):
                if key in wanted:
                    found[key] = letter
    missing = [each for each in wanted if each not in found]
    if missing:
        raise click.UsageError(f"no dead letter {', '.join(missing)}")
    return list({(letter.queue, letter.id): letter for letter in found.values()}.values())


def _summary(letter: DeadLetter) -> dict[str, Any]:
    when = datetime.datetime.fromtimestamp(letter.at).astimezone()
    return {
        "id": letter.id,
        "queue": letter.queue,
        "task": letter.message.task,
        "task_id": letter.message.id,
        "when": when.isoformat(sep=" ", timespec="seconds"),
        "deliveries": letter.deliveries,
        "reason": letter.reason,
    }


def _contents(app: Umbel, letter: DeadLetter) -> dict[str, Any]:
    """Headers and arguments as far as they can be read and their content type is accepted."""
    import msgspec

    from umbel.codecs import accept_set, loads
    from umbel.errors import UmbelError
    from umbel.message import decode_headers

    message = letter.message
    headers: Any
    try:
        headers = decode_headers(message.headers)
    except msgspec.MsgspecError:
        headers = {}
    contents: dict[str, Any] = {
        "headers": headers or message.headers.decode(errors="replace"),
        "content_type": message.content_type,
        "body_bytes": len(message.body),
    }
    try:
        accept = accept_set(app.conf.accept_content)
        compression = headers.get("compression")
        body = loads(message.body, message.content_type, message.content_encoding, accept, compression)
        contents["args"], contents["kwargs"] = body[0], body[1]
    except (UmbelError, LookupError, TypeError) as error:
        contents["args"] = contents["kwargs"] = None
        contents["unreadable"] = f"{type(error).__name__}: {error}"
        contents["body"] = message.body[:1000].decode(errors="backslashreplace")
    return contents
