"""``umbel worker``: run one worker node in this process."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import click

from umbel.cli.user_options import ExtensibleCommand, all_options

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.cli import Context
    from umbel.worker.supervisor import Worker

_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


@click.command(cls=ExtensibleCommand)
@click.option(
    "-P",
    "--pool",
    metavar="NAME",
    help="Kind of lanes: prefork, threads, asyncio, gevent, eventlet, solo or your own [default: prefork].",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    help="Tasks at a time in each process; with prefork, processes [default: CPUs; asyncio and greenlets 100].",
)
@click.option("--processes", type=click.IntRange(min=1), help="Processes with that many lanes each [default: 1].")
@click.option("-Q", "--queues", metavar="A,B", help="Queues to consume [default: all configured].")
@click.option("-X", "--exclude-queues", metavar="A,B", help="Configured queues not to consume.")
@click.option("-n", "--hostname", metavar="NAME", help="Node name; %h host, %n name, %d domain [default: umbel@%h].")
@click.option("-l", "--loglevel", type=click.Choice(_LEVELS, case_sensitive=False), default="INFO", show_default=True)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-f", "--logfile", type=click.Path(dir_okay=False), help="Append the log to this file.")
@click.option("--prefetch-multiplier", type=click.IntRange(min=1), help="Messages held per lane [default: adaptive].")
@click.option(
    "--grace", type=click.FloatRange(min=0), help="Seconds that TERM waits for running tasks [default: for ever]."
)
@click.option("--purge", is_flag=True, help="Remove waiting messages first.")
@click.option("--quiet", "-q", is_flag=True, help="No banner.")
@click.pass_obj
def worker(
    context: Context,
    pool: str | None,
    concurrency: int | None,
    processes: int | None,
    queues: str | None,
    exclude_queues: str | None,
    hostname: str | None,
    loglevel: str,
    log_format: str,
    logfile: str | None,
    prefetch_multiplier: int | None,
    grace: float | None,
    purge: bool,
    quiet: bool,
) -> None:
    """Run a worker.

    TERM or INT (ctrl-C) stops it warmly: running tasks finish, everything else is given back at once. A second
    signal, or QUIT, kills running tasks and gives them back.

    \b
    Examples:
      umbel -A proj worker
      umbel -A proj worker -c 8 -Q emails,reports -n mailer@%h
      umbel -A proj worker --pool gevent --processes 2 -c 500
      umbel -A proj worker --loglevel debug --log-format json
    """
    from umbel import logs
    from umbel.cli.logging_signals import set_up_logging
    from umbel.worker.supervisor import Worker

    app = context.app
    app.import_task_modules()
    level, style = loglevel.upper(), "json" if log_format == "json" else "text"
    set_up_logging(lambda: logs.configure(level, style, logfile), level=level, file=logfile, style=style)
    if prefetch_multiplier is not None:
        app.conf.assign({"worker_prefetch_multiplier": prefetch_multiplier}, "the command line")
    node = Worker(
        app,
        pool=pool,
        concurrency=concurrency,
        processes=processes,
        queues=_names(queues),
        exclude=_names(exclude_queues),
        hostname=_node_name(hostname or "umbel@%h"),
        grace=grace,
        options=all_options(click.get_current_context(), app),
    )
    app.finalize()
    if not quiet:
        click.echo(_banner(app, node), err=True)
    if purge:
        for queue in node.queues:
            click.echo(f"{queue.name}: {app.broker.purge(queue.name)} messages removed", err=True)
        app.broker.close()
    sys.exit(node.run())


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _node_name(template: str) -> str:
    host = socket.gethostname()
    name, _, domain = host.partition(".")
    for key, value in {"%h": host, "%n": name, "%d": domain}.items():
        template = template.replace(key, value)
    return template if "@" in template else f"{template}@{host}"


def _banner(app: Umbel, node: Worker) -> str:
    from umbel import __version__
    from umbel.urls import redact

    tasks = sorted(name for name in app.tasks if not name.startswith("celery."))
    shown = tasks[:20] + ([f"… and {len(tasks) - 20} more"] if len(tasks) > 20 else [])
    lines = [
        f"umbel {__version__}  {node.hostname}  pid {os.getpid()}",
        f"  app         {app.main or '-'}",
        f"  broker      {redact(app.broker.url)}",
        f"  results     {redact(app.backend.url)}",
        f"  concurrency {node.size} ({node.kind.name})",
        f"  queues      {', '.join(queue.name for queue in node.queues)}",
        "  tasks       " + ("\n              ".join(shown) or "none"),
    ]
    return "\n".join(lines) + "\n"
