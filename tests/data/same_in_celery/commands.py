"""What commands of one's own are made of: `celery.bin.base` and the types of `celery.bin.worker`."""

import click
from celery import Celery
from celery.bin import base, worker
from click.testing import CliRunner

app = Celery("x", broker="memory://")
plain, coloured = base.CLIContext(app, True, ".", False), base.CLIContext(app, False, ".", True)
for context in (plain, coloured):
    print(repr(context.OK), repr(context.ERROR), repr(context.style("a", fg="red")), context.app is app, context.quiet)
    for reply in ([], ["a", {"b": 1}], {"ok": "fine"}, {"error": "bad"}, {"a": 1}, "text", 5, {"ok": [1, 2]}):
        print(reply, context.pretty(reply))
    print(context.pretty_list(["a", "b"]), context.pretty_list([]), context.pretty_dict_ok_error({"error": [1]}))
    context.say_chat("->", "title", "body", True)
    context.say_chat("<-", "title", "body")
    context.echo("echoed")
    context.secho("styled", bold=True) if context is coloured else context.secho("plain")
    context.error("to standard error")

TEXTS = [
    (base.JSON_ARRAY, ["[1]", "{}", "x"]),
    (base.JSON_OBJECT, ['{"a": 1}', "[1]"]),
    (base.ISO8601, ["2020-01-01", "2020-01-01T10:00:00"]),
    (base.ISO8601_OR_FLOAT, ["1.5", "2020-01-01"]),
    (base.LOG_LEVEL, ["info", "INFO", "10", "bogus", 10]),
    (base.COMMA_SEPARATED_LIST, ["a,b", "a, b ", ""]),
    (worker.HOSTNAME, ["w@%h", "w", None]),
    (worker.AUTOSCALE, ["10,3", "10"]),
]
for kind, texts in TEXTS:
    for text in texts:
        try:
            print(kind.name, text, repr(kind.convert(text, None, None)))
        except click.BadParameter as error:
            print(kind.name, text, error)


@click.command(cls=base.CeleryCommand, context_settings={"ignore_unknown_options": True})
@click.option("-a", cls=base.CeleryOption, help_group="Mine", help="the a")
@click.option("-b", cls=base.CeleryOption, help_group="Other", help="the b")
@click.option("-c", cls=base.CeleryOption, help="the c")
@click.option("-d", cls=base.CeleryOption, default="dd", show_default=True, help="the d", help_group="Mine")
@click.argument("z")
@click.pass_context
@base.handle_preload_options
def command(ctx, **options):
    """A command."""
    print(options, ctx.obj is plain)


@click.command(cls=base.CeleryDaemonCommand)
@click.pass_context
def worker_like(ctx, **options):
    print(sorted(options.items()))


@click.command("worker", cls=base.CeleryDaemonCommand)
@click.pass_context
def named(ctx, **options):
    print(sorted(options.items()))


app.conf.worker_pidfile = "/of/the/settings"
for called, arguments in [
    (command, ["--help"]),
    (command, ["-a", "1", "zz"]),
    (worker_like, ["--help"]),
    (worker_like, ["-f", "given"]),
    (named, []),
]:
    print(CliRunner().invoke(called, arguments, obj=plain).output)
try:
    base.handle_remote_command_error("x", ValueError("v"))
except click.ClickException as error:
    print(type(error).__name__, error, error.exit_code)
