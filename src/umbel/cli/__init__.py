"""The command line, ``umbel``: one module a command, imported when it is called.

Errors of Umbel end in one line on standard error and exit status 1; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from umbel.app import Umbel

COMMANDS = {
    "amqp": "Make, fill, empty and delete queues by hand.",
    "call": "Send a task by name.",
    "config": "Show every setting, its value and where that came from.",
    "demo": "Run real work on an embedded broker, without any server.",
    "dlq": "List, show, replay and purge dead-lettered messages.",
    "graph": "Draw the boot steps of workers.",
    "health": "Ask a worker on this machine how it is.",
    "list": "List what the application has.",
    "logtool": "Read the logs of workers.",
    "migrate": "Send the waiting tasks of one broker to another.",
    "multi": "Start, stop and restart several workers on this machine.",
    "purge": "Remove waiting messages.",
    "queues": "Show queues and what is in them.",
    "report": "Show versions and settings, for bug reports.",
    "result": "Show the result of a task.",
    "revoke": "See to it that tasks are not run.",
    "shell": "Open a Python shell with the application and its tasks.",
    "upgrade": "Bring a project to newer names.",
    "worker": "Run a worker.",
}

_MODULES = {"list": "listing"}
"""Modules, and what they have, that cannot be called as their command is."""

AS_CELERY = "UMBEL_AS_CELERY"
"""Environment variable of ``--as-celery``; set by it, for the processes that a command starts."""


COMMAND_LINE = "the command line"


def _is_plain(value: Any) -> bool:
    """Whether a message can carry a value as it is."""
    if isinstance(value, dict):
        table = cast("dict[Any, Any]", value)
        return all(isinstance(key, str) and _is_plain(held) for key, held in table.items())
    if isinstance(value, list):
        return all(_is_plain(held) for held in cast("list[Any]", value))
    return value is None or isinstance(value, (str, int, float))


@dataclass
class Context:
    """What the options before the command say. ``app`` finds the application on first use."""

    spec: str | None = None
    broker: str | None = None
    backend: str | None = None
    workdir: str | None = None
    config: str | None = None
    loader: str | None = None
    quiet: bool = False
    debug: bool = False
    as_celery: bool = False
    directory: str = "."
    """Where the command was called."""
    given: Umbel | None = None
    """The application whose own program this is, instead of one that ``-A`` names."""
    _found: list[Umbel] = field(default_factory=list["Umbel"])

    @property
    def app(self) -> Umbel:
        """Raises ConfigurationError when ``-A`` names none that can be imported."""
        if not self._found:
            from umbel.app import Umbel
            from umbel.current import get_current_app
            from umbel.loading import find_app

            unnamed = get_current_app if self.as_celery else Umbel
            app = self.given or (find_app(self.spec) if self.spec else unnamed())
            given = {"broker_url": self.broker, "result_backend": self.backend}
            self._configure(app)
            app.conf.assign({name: value for name, value in given.items() if value}, COMMAND_LINE)
            self._found.append(app)
            self._tell(app)
        return self._found[0]

    def _configure(self, app: Umbel) -> None:
        """Take the settings in the module of ``--config``. Raises ConfigurationError.

        Plain values count as given on the command line, which new interpreters (pools gevent and eventlet) are told.
        """
        if not self.config:
            return
        from umbel.config.loading import Foreign, Object

        entries = Object(self.config, foreign=Foreign(["*"] if self.as_celery else ())).entries()
        values = {name: entry.value for name, entry in entries.items()}
        plain = {name: value for name, value in values.items() if _is_plain(value)}
        app.conf.assign(values, f"--config {self.config}")
        app.conf.assign(plain, COMMAND_LINE)

    def _tell(self, app: Umbel) -> None:
        from umbel.signals import user_preload_options

        options = {
            "app": self.spec,
            "broker": self.broker,
            "result_backend": self.backend,
            "config": self.config,
            "loader": self.loader,
            "workdir": self.workdir,
            "quiet": self.quiet,
            "debug": self.debug,
        }
        user_preload_options.send(sender=self, app=app, options=options)


PLUGINS = "umbel.commands"
"""Entry points of commands that other packages add: click commands, whose context has a ``Context`` as its object."""

CELERY_PLUGINS = "celery.commands"
"""The same for Celery's command line, understood with ``--as-celery``; these get its ``CLIContext``."""


class _Commands(click.Group):
    """Loads ``umbel.cli.<command>``, or a command of another package, only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *_plugins(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            found = _plugins(ctx).get(cmd_name)
            if found is not None and found.group == CELERY_PLUGINS:
                from umbel.compat import install_as_celery

                install_as_celery()
            return found.load() if found is not None else None
        module = importlib.import_module(f"umbel.cli.{_MODULES.get(cmd_name, cmd_name)}")
        return getattr(module, _MODULES.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and args[0] not in _plugins(ctx):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            others = {name: f"Of {each.value.partition(':')[0]}." for name, each in _plugins(ctx).items()}
            formatter.write_dl(sorted((others | COMMANDS).items()))


def _plugins(ctx: click.Context) -> dict[str, EntryPoint]:
    """Commands of other packages by their names."""
    from importlib.metadata import entry_points

    groups = [CELERY_PLUGINS, PLUGINS] if ctx.params.get("as_celery") else [PLUGINS]
    return {each.name: each for group in groups for each in entry_points(group=group)}


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from umbel import __version__

        click.echo(f"umbel {__version__}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-A", "--app", "spec", envvar="UMBEL_APP", metavar="MODULE[:ATTR]", help="The application, e.g. proj.tasks:app."
)
@click.option("-b", "--broker", metavar="URL", help="Broker, instead of the configured one.")
@click.option("--result-backend", "backend", metavar="URL", help="Result store, instead of the configured one.")
@click.option("--config", metavar="MODULE", help="Take settings from this module too; they go before all others.")
@click.option("--loader", metavar="NAME", help="With --as-celery: how a project finds its settings, app or default.")
@click.option("--workdir", metavar="DIR", help="Change to this directory first.")
@click.option("--no-color", "-C", is_flag=True, help="No colours, as when NO_COLOR is set.")
@click.option("--quiet", "-q", is_flag=True, help="No banner and no notes on what is being done.")
@click.option("--skip-checks", is_flag=True, help="Do not run Django's system checks, as when SKIP_CHECKS is set.")
@click.option(
    "--as-celery",
    is_flag=True,
    envvar=AS_CELERY,
    help="Run a project that imports celery: that name means Umbel here.",
)
@click.option("--debug", is_flag=True, envvar="UMBEL_DEBUG", help="Show tracebacks of errors.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_context
def umbel(ctx: click.Context, **options: Any) -> None:
    """Umbel, a distributed task queue.

    \b
    Examples:
      umbel -A proj worker --concurrency 4
      umbel -A proj call tasks.add 2 2 --wait
      umbel -A proj queues
      umbel --as-celery -A proj worker
      umbel demo
    """
    directory = os.getcwd()
    if options["workdir"]:
        os.chdir(options["workdir"])
    if options.pop("no_color"):
        os.environ["NO_COLOR"] = "1"
    if options.pop("skip_checks"):
        os.environ["CELERY_SKIP_CHECKS"] = "1"
    if options["loader"]:
        if not options["as_celery"]:
            raise click.UsageError("--loader is for projects of Celery's: give --as-celery too")
        os.environ["CELERY_LOADER"] = options["loader"]
    if options["config"] and options["as_celery"]:
        os.environ["CELERY_CONFIG_MODULE"] = options["config"]
    if options["as_celery"]:
        from umbel.compat import install_as_celery

        install_as_celery()
        os.environ[AS_CELERY] = "1"
    context = ctx.obj = Context(**options, directory=directory, given=ctx.obj)
    plugin = None if ctx.invoked_subcommand in COMMANDS else _plugins(ctx).get(ctx.invoked_subcommand or "")
    if plugin is not None and plugin.group == CELERY_PLUGINS:
        from umbel.compat.celery.bin.base import CLIContext

        no_color = bool(os.environ.get("NO_COLOR"))
        ctx.obj = CLIContext(context.app, no_color, context.workdir, context.quiet)


def run_for(app: Umbel, argv: Sequence[str] | None = None) -> int:
    """Run a command for an application, with these arguments or the program's own; its exit status.

    Raises what the command raises, and click's errors for wrong usage.
    """
    try:
        given = None if argv is None else list(argv)
        result = umbel.main(args=given, prog_name="umbel", standalone_mode=False, obj=app)
    except SystemExit as end:
        result = end.code
    return result if isinstance(result, int) else 0 if result is None else 1


def main() -> None:
    """Entry point of the ``umbel`` command."""
    debug = "--debug" in sys.argv or bool(os.environ.get("UMBEL_DEBUG"))
    try:
        umbel(prog_name="umbel")
    except Exception as error:
        from umbel.errors import UmbelError

        needs_celery = isinstance(error, ModuleNotFoundError) and error.name == "celery"
        if debug or not (needs_celery or isinstance(error, (UmbelError, OSError))):
            raise
        hint = "; to run a project of Celery's: umbel --as-celery …" if needs_celery else ""
        click.echo(f"umbel: {error}{hint}", err=True)
        sys.exit(1)
