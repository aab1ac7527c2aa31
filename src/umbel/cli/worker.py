"""``umbel worker``: run one worker node in this process."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

import click
from msgspec.structs import replace

from umbel.cli.generation import GenerationCommand, current_generation, project_files
from umbel.cli.user_options import all_options
from umbel.cli.worker_options import ServiceOptions, service_options
from umbel.nodenames import for_node, for_process, node_name

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.cli import Context
    from umbel.worker.supervisor import Worker

_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL"]


@click.command(cls=GenerationCommand)
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
@click.option(
    "-n",
    "--hostname",
    metavar="NAME",
    help="Node name; %h host with domain, %n host alone, %d domain [default: umbel@%h].",
)
@click.option("-l", "--loglevel", type=click.Choice(_LEVELS, case_sensitive=False), default="INFO", show_default=True)
@click.option("--log-format", type=click.Choice(["text", "json"]), help="[default: text, see worker_log_format_style]")
@click.option(
    "-f",
    "--logfile",
    type=click.Path(dir_okay=False),
    help="Append the log to this file; %n node, %h host, %d domain; with %i or %I one file for each executor.",
)
@click.option(
    "--grace", type=click.FloatRange(min=0), help="Seconds that TERM waits for running tasks [default: for ever]."
)
@click.option("--purge", "--discard", "purge", is_flag=True, help="Remove waiting messages first.")
@click.option("--quiet", "-q", is_flag=True, help="No banner.")
@service_options
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
    log_format: Literal["text", "json"] | None,
    logfile: str | None,
    grace: float | None,
    purge: bool,
    quiet: bool,
    **service: Any,
) -> None:
    """Run a worker.

    TERM or INT (ctrl-C) stops it warmly: running tasks finish, everything else is given back at once. A second
    signal, or QUIT, kills running tasks and gives them back. USR1 writes the stacks of all its processes to the log.

    \b
    Examples:
      umbel -A proj worker
      umbel -A proj worker -c 8 -Q emails,reports -n mailer@%h
      umbel -A proj worker --pool gevent --processes 2 -c 500
      umbel -A proj worker --loglevel debug --log-format json
      umbel -A proj worker -n w1@%h --detach --pidfile run/%n.pid --logfile log/%n%I.log
      umbel -A proj worker --max-tasks-per-child 1000 --max-memory-per-child 300000
      umbel -A proj worker --autoscale 10,2
      umbel -A proj worker --reload
      umbel -A proj worker --health-port 8080
    """
    from umbel.cli import daemon
    from umbel.cli.reloader import Reloader
    from umbel.executors.fresh import check_unpatched
    from umbel.executors.lanes import find_lanes
    from umbel.log import setup as log
    from umbel.log.telling import set_up_logging
    from umbel.pidfile import Pidfile
    from umbel.worker.supervisor import Worker

    options, generation = ServiceOptions(**service), current_generation()
    options.check()
    sys.dont_write_bytecode = sys.dont_write_bytecode or options.reload
    if options.executable:
        daemon.execute_with(options.executable)
    if options.workdir:
        os.chdir(options.workdir)
    if options.umask:
        daemon.set_umask(options.umask)
    begun = daemon.detach() if options.detach and generation is None else None
    daemon.drop_privileges(options.uid, options.gid)
    app, name = context.app, node_name(hostname or "umbel@%h")
    conf = app.conf
    conf.assign(options.settings(), "the command line")
    if conf.worker_umask is not None:
        daemon.set_umask(conf.worker_umask)
    daemon.drop_privileges(conf.worker_uid, conf.worker_gid)
    logging = log.setup_of(conf, level=loglevel.upper(), style=log_format, file=logfile)
    file = for_node(logging.file, name) if logging.file else None
    pidfile = Pidfile(for_node(conf.worker_pidfile, name)) if conf.worker_pidfile and generation is None else None
    if pidfile is not None:
        pidfile.acquire()
    try:
        for module in _names(options.include) or []:
            importlib.import_module(module)
        app.import_task_modules()
        set_up_logging(
            lambda: log.configure(replace(logging, file=file)),
            level=loglevel.upper(),
            file=file,
            style=logging.style,
            color=logging.color,
        )
        if conf.worker_reload and generation is None:
            command = [sys.executable, "-m", "umbel", *sys.argv[1:]]
            reloader = Reloader(command, context.directory, project_files(), conf.worker_reload_dirs)
            check_unpatched(find_lanes(pool or conf.worker_pool).name)
            if begun is not None:
                begun(for_process(file, 0) if file else None)
            sys.exit(reloader.run())
        node = Worker(
            app,
            pool=pool,
            concurrency=concurrency,
            processes=processes,
            queues=_names(queues),
            exclude=_names(exclude_queues),
            hostname=name,
            grace=grace,
            options=all_options(click.get_current_context(), app),
        )
        app.finalize()
        again = generation is not None and generation.number > 1
        if not (quiet or context.quiet or again):
            click.echo(_banner(app, node), err=True)
        if purge and not again:
            for queue in node.queues:
                click.echo(f"{queue.name}: {app.broker.purge(queue.name)} messages removed", err=True)
            app.broker.close()
        if begun is not None:
            begun(for_process(file, 0) if file else None)
        status = node.run()
    finally:
        if pidfile is not None:
            pidfile.release()
    sys.exit(status)


def _size(node: Worker) -> str:
    return f"{node.bounds.clamp(0)} to {node.size}, by load" if node.bounds is not None else str(node.size)


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


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
        f"  concurrency {_size(node)} ({node.kind.name})",
        f"  queues      {', '.join(queue.name for queue in node.queues)}",
        "  tasks       " + ("\n              ".join(shown) or "none"),
    ]
    return "\n".join(lines) + "\n"
