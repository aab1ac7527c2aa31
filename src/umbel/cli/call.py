"""``umbel call``: send a task by its name, and wait for the result if wanted."""

from __future__ import annotations

import datetime
import difflib
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from umbel.cli.outcomes import TIMED_OUT, write_document, write_value
from umbel.cli.output import write_json

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.cli import Context


class _JSON(click.ParamType[Any]):
    """A JSON document of one type."""

    name = "JSON"

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, self.kind):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)
        if not isinstance(found, self.kind):
            self.fail(f"{value!r} is not a JSON {'list' if self.kind is list else 'object'}", param, ctx)
        return found


class _Moment(click.ParamType[datetime.datetime]):
    """An ISO 8601 moment."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.datetime:
        if isinstance(value, datetime.datetime):
            return value
        try:
            return datetime.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not an ISO 8601 moment such as 2026-11-23T18:00:00+01:00", param, ctx)


class _SecondsOrMoment(_Moment):
    """Seconds from now, or an ISO 8601 moment."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return float(value)
        except (TypeError, ValueError):
            return super().convert(value, param, ctx)


@click.command()
@click.argument("name")
@click.argument("args", nargs=-1)
@click.option("-a", "--args", "more_args", type=_JSON(list), help="Positional arguments as a JSON list, after ARGS.")
@click.option("--kwargs", type=_JSON(dict), help="Keyword arguments as a JSON object.")
@click.option("-k", "--kwarg", "pairs", multiple=True, metavar="KEY=VALUE", help="One keyword argument; repeatable.")
@click.option("--countdown", type=float, metavar="SECONDS", help="Run it not before so many seconds.")
@click.option("--eta", type=_Moment(), help="Run it not before this moment (ISO 8601).")
@click.option("--expires", type=_SecondsOrMoment(), help="Do not run it after so many seconds, or this moment.")
@click.option("-Q", "--queue", help="Send to this queue instead of the routed one.")
@click.option("--exchange", help="Send to this exchange instead of the routed one.")
@click.option("--routing-key", help="Routing key for that exchange.")
@click.option("--priority", type=click.IntRange(0, 9), help="0 to 9; 9 goes first.")
@click.option("--serializer", help="Serializer of the arguments.")
@click.option("--task-id", metavar="ID", help="Id of the task [default: a random one].")
@click.option("--wait", is_flag=True, help="Wait for the result and write that instead of the id.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait at most so long; implies --wait."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_obj
def call(
    context: Context,
    name: str,
    args: tuple[str, ...],
    more_args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    pairs: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Send the task NAME with ARGS.

    Each of ARGS, and each VALUE, is read as JSON where it is JSON, and is a string otherwise. Writes the id of the
    task, or with --wait its return value. A task that is not in the application is sent all the same, for workers
    that have it.

    Exit status: 0 sent, or succeeded; 1 the task failed, or could not be sent; 2 wrong usage; 124 no result in time.

    \b
    Examples:
      umbel -A proj call tasks.add 2 2 --wait
      umbel -A proj call tasks.add -- -2 2
      umbel -A proj call tasks.add -k x=2 -k y=2 --countdown 10
      umbel -A proj call tasks.mail --kwargs '{"to": "a@b.example"}' --queue emails
      umbel -A proj call tasks.report --timeout 30 --json
    """
    app = context.app
    app.import_task_modules()
    app.finalize()
    wait = wait or timeout is not None
    if wait and app.backend.features.knows_nothing:
        raise click.UsageError("--wait needs a result backend: set result_backend, or give --result-backend")
    positional = [_value(text) for text in args] + (more_args or [])
    keywords = {**(kwargs or {}), **dict(_pair(text) for text in pairs)}
    _check(app, name, positional, keywords)
    chosen = {key: value for key, value in options.items() if value is not None}
    result = app.send_task(name, positional, keywords, **chosen)
    if not wait:
        write_json({"id": result.id}) if as_json else click.echo(result.id)
        return
    from umbel.errors import TimeoutError

    try:
        result.get(timeout=timeout, propagate=False)
    except TimeoutError:
        click.echo(f"umbel: no result of task {result.id} within {timeout:g} s", err=True)
        sys.exit(TIMED_OUT)
    sys.exit(write_document(result) if as_json else write_value(result))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--kwarg")
    return key, _value(value)


def _check(app: Umbel, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raise UsageError for arguments that a known task does not take; warn of a task that is not known."""
    known = cast("dict[str, Any]", app.tasks)
    if name in known:
        try:
            known[name].check_arguments(args, kwargs)
        except TypeError as error:
            raise click.UsageError(f"{name}: {error}") from error
        return
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    click.echo(f"umbel: {name} is not a task of this application; sending it by name.{hint}", err=True)
