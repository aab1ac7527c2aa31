"""``celery.bin.base``: what commands that a project or package adds to ``celery`` are made of.

Such commands are found by the entry points ``celery.commands`` (with ``--as-celery``), and get a ``CLIContext`` as the
context's object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import update_wrapper
from pprint import pformat
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from umbel.compat.celery.exceptions import CeleryCommandException
from umbel.compat.celery.utils.log import LOG_LEVELS
from umbel.compat.celery.utils.text import str_to_list
from umbel.compat.celery.utils.time import maybe_iso8601

if TYPE_CHECKING:
    from umbel.app import Umbel

    ParamType = click.ParamType[Any]
    Choice = click.Choice[str]
else:
    ParamType, Choice = click.ParamType, click.Choice

__all__ = [
    "COMMA_SEPARATED_LIST",
    "ISO8601",
    "ISO8601_OR_FLOAT",
    "JSON_ARRAY",
    "JSON_OBJECT",
    "LOG_LEVEL",
    "CLIContext",
    "CeleryCommand",
    "CeleryDaemonCommand",
    "CeleryOption",
    "CommaSeparatedList",
    "DaemonOption",
    "ISO8601DateTime",
    "ISO8601DateTimeOrFloat",
    "JsonArray",
    "JsonObject",
    "LogLevel",
    "handle_preload_options",
    "handle_remote_command_error",
]


class CLIContext:
    """What a command knows of those options that stand before it, and how it writes."""

    def __init__(self, app: Umbel, no_color: bool, workdir: str | None, quiet: bool = False) -> None:
        self.app = app
        self.no_color = no_color
        self.workdir = workdir
        self.quiet = quiet

    @property
    def OK(self) -> str:
        return self.style("OK", fg="green", bold=True)

    @property
    def ERROR(self) -> str:
        return self.style("ERROR", fg="red", bold=True)

    def style(self, message: Any = None, **kwargs: Any) -> str:
        """Text in the colours and forms of ``click.style``, or as it is without colours."""
        return str(message) if self.no_color else click.style(message, **kwargs)

    def echo(self, message: Any = None, **kwargs: Any) -> None:
        """Write a line; ``kwargs`` as of ``click.echo``."""
        if self.no_color:
            kwargs["color"] = False
        click.echo(message, **kwargs)

    def secho(self, message: Any = None, **kwargs: Any) -> None:
        """Write a line; ``kwargs`` as of ``click.secho``."""
        if self.no_color:
            kwargs["color"] = False
        click.secho(message, **kwargs)

    def error(self, message: Any = None, **kwargs: Any) -> None:
        """Write a line to standard error."""
        self.secho(message, err=True, **kwargs)

    def pretty(self, n: Any) -> tuple[str, str]:
        """A reply of a worker to show: its status, and its text."""
        if isinstance(n, list):
            return self.OK, self.pretty_list(cast("list[Any]", n))
        if isinstance(n, dict):
            reply = cast("dict[str, Any]", n)
            if "ok" in reply or "error" in reply:
                return self.pretty_dict_ok_error(reply)
            return self.OK, json.dumps(reply, sort_keys=True, indent=4)
        return self.OK, n if isinstance(n, str) else pformat(n)

    def pretty_list(self, n: Sequence[Any]) -> str:
        """One line for each, or that there is none."""
        return "\n".join(f"{self.style('*', fg='white')} {each}" for each in n) or "- empty -"

    def pretty_dict_ok_error(self, n: dict[str, Any]) -> tuple[str, str]:
        """Status and text of a reply with the key ``ok`` or ``error``. Raises KeyError where it has neither."""
        status, value = (self.OK, n["ok"]) if "ok" in n else (self.ERROR, n["error"])
        return status, "\n".join(f"    {line}" for line in self.pretty(value)[1].splitlines())

    def say_chat(self, direction: str, title: str, body: str = "", show_body: bool = False) -> None:
        """Tell what was sent (``->``) or came back (``<-``, nothing if ``quiet``)."""
        if direction == "<-" and self.quiet:
            return
        arrow = "" if self.quiet else self.style(direction, fg="white", bold=True) + " "
        self.echo(f"{arrow} {title}")
        if body and show_body:
            self.echo(body)


def handle_remote_command_error(command: str, exc: Exception) -> NoReturn:
    """Raises CeleryCommandException (exit status 69) for a remote control command that failed by ``exc``."""
    raise CeleryCommandException(f"Unable to run the `{command}` command. Reason: {exc}", exit_code=69) from exc


def handle_preload_options(f: Callable[..., Any]) -> Callable[..., Any]:
    """For a command that gets the context first: see to it that ``user_preload_options`` has been sent before."""

    def call(ctx: click.Context, *args: Any, **kwargs: Any) -> Any:
        getattr(ctx.obj, "app", None)  # the signal is sent when the application is found
        return f(ctx, *args, **kwargs)

    return update_wrapper(call, f)


# -- options and commands --


class CeleryOption(click.Option):
    """An option. ``help_group``: the heading that it stands under in the help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.help_group: str | None = kwargs.pop("help_group", None)
        self.default_value_from_context: str | None = kwargs.pop("default_value_from_context", None)
        super().__init__(*args, **kwargs)

    def get_default(self, ctx: click.Context, *args: Any, **kwargs: Any) -> Any:
        """The default; of ``default_value_from_context``, what the context's object has under that name."""
        if self.default_value_from_context:
            self.default = getattr(ctx.obj, self.default_value_from_context)
        return super().get_default(ctx, *args, **kwargs)


class CeleryCommand(click.Command):
    """A command in whose help options stand under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx)
            if record is None and isinstance(each, click.Argument):
                record = each.make_metavar(ctx), ""
            if record is not None:
                groups.setdefault(getattr(each, "help_group", None) or "Options", []).append(record)
        rest = groups.pop("Options", [])
        for heading, records in [*groups.items(), *([("Options", rest)] if rest else [])]:
            with formatter.section(heading):
                formatter.write_dl(records)


class DaemonOption(CeleryOption):
    """An option whose default is the setting ``<command>_<option>`` of the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            *args,
            help_group=kwargs.pop("help_group", "Daemonization Options"),
            callback=kwargs.pop("callback", self.daemon_setting),
            **kwargs,
        )

    def daemon_setting(self, ctx: click.Context, opt: CeleryOption, value: Any) -> Any:
        """``value``, or what the setting says."""
        return value or getattr(ctx.obj.app.conf, f"{ctx.command.name}_{self.name}", None)


class CeleryDaemonCommand(CeleryCommand):
    """A command with the options of a process in the background: log file, pid file, user, group, umask, Python."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            DaemonOption(["--logfile", "-f"], help="Log destination; defaults to stderr"),
            DaemonOption(["--pidfile"], help="PID file path; defaults to no PID file"),
            DaemonOption(["--uid"], help="Drops privileges to this user ID"),
            DaemonOption(["--gid"], help="Drops privileges to this group ID"),
            DaemonOption(["--umask"], help="Create files and directories with this umask"),
            DaemonOption(["--executable"], help="Override path to the Python executable"),
        ]


# -- types of options --


class CommaSeparatedList(ParamType):
    """``a,b``."""

    name = "comma separated list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return str_to_list(value)


class JsonArray(ParamType):
    """A list, in JSON or as it is."""

    name = "json array"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._checked(value, list, "an array")

    def _checked(self, value: Any, kind: type, what: str) -> Any:
        if isinstance(value, kind):
            return value
        try:
            decoded = json.loads(value)
        except ValueError as error:
            self.fail(str(error))
        if not isinstance(decoded, kind):
            self.fail(f"{value} was not {what}")
        return decoded


class JsonObject(JsonArray):
    """A dict, in JSON or as it is."""

    name = "json object"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._checked(value, dict, "an object")


class ISO8601DateTime(ParamType):
    """A date and time."""

    name = "iso-86091"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return maybe_iso8601(value)
        except (TypeError, ValueError) as error:
            self.fail(str(error))


class ISO8601DateTimeOrFloat(ISO8601DateTime):
    """A number, or a date and time."""

    name = "iso-86091 or float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return float(value)
        except (TypeError, ValueError):
            return super().convert(value, param, ctx)


class LogLevel(Choice):
    """A log level by its name, in any case, or its number."""

    def __init__(self) -> None:
        super().__init__(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL"))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        return LOG_LEVELS[super().convert(value.upper(), param, ctx)]


JSON_ARRAY = JsonArray()
JSON_OBJECT = JsonObject()
ISO8601 = ISO8601DateTime()
ISO8601_OR_FLOAT = ISO8601DateTimeOrFloat()
LOG_LEVEL = LogLevel()
COMMA_SEPARATED_LIST = CommaSeparatedList()
