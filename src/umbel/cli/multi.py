"""``umbel multi``: several workers on this machine, each a detached ``umbel worker`` with a pid file and a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from umbel.cli.multi_arguments import parse
from umbel.cli.multi_nodes import Cluster, Reporter

if TYPE_CHECKING:
    from umbel.cli import Context


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--help"]}
)
@click.argument("action", metavar="ACTION")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="NODES... [OPTIONS]")
@click.pass_obj
def multi(context: Context, action: str, arguments: tuple[str, ...]) -> None:
    """Start, stop and restart several workers on this machine.

    \b
    Actions:
      start NODES... [OPTIONS]     start nodes; each is an `umbel worker --detach`
      stop NODES... [-SIGNAL]      ask nodes to stop (TERM) and return at once
      stopwait NODES... [-SIGNAL]  the same, and wait until they have stopped
      restart NODES... [OPTIONS]   stop nodes, wait for each, and start it again
      kill NODES...                end nodes at once (KILL); what they ran is given to others
      show NODES... [OPTIONS]      print the commands that start would run
      names NODES...               print the names of the nodes
      expand TEMPLATE NODES...     print TEMPLATE for each node: %n name, %h host, %d domain, %p whole name
      get NODE NODES... [OPTIONS]  print the options of one node

    NODES are names, or one number: `3` means umbel1, umbel2 and umbel3. A name without a host gets this one. OPTIONS
    are those of `umbel worker`; with a colon they are for some nodes only, which are given by name, by position, or as
    a range: `-c:web 4`, `-Q:1,3 images`, `--concurrency:2-4=8`. What stands after `--` goes to each node as it is.

    \b
    Options of multi itself:
      --pidfile=PATH, --logfile=PATH  default %n.pid and %n%I.log, in the directory where this runs
      --prefix=NAME (umbel)  --suffix=HOST (this host)  --range-prefix=NAME (as --prefix)  --executable=PYTHON
      -v, --verbose  also print commands      -q, --quiet  print errors only      --no-color

    The exit status is 1 if a node could not be started or stopped. Nodes must be named in the same way,
    with the same --pidfile, when they are started and when they are stopped.

    \b
    Examples:
      umbel -A proj multi start web batch -c:web 8 -c:batch 2 -Q:batch reports
      umbel -A proj multi start 4 -c 2 -Q:1-3 images -Q:4 data --pidfile=run/%n.pid --logfile=log/%n%I.log
      umbel -A proj multi restart 4 --pidfile=run/%n.pid --logfile=log/%n%I.log
      umbel multi stopwait 4 --pidfile=run/%n.pid
      umbel -A proj multi show 2 -c:1 1 -c:2 8
    """
    commands: dict[str, Callable[[Cluster], bool]] = {
        "start": Cluster.start,
        "stop": Cluster.stop,
        "stopwait": Cluster.stop_and_wait,
        "restart": Cluster.restart,
        "kill": Cluster.kill,
        "show": Cluster.show,
        "names": Cluster.names,
    }
    rest = list(arguments)
    if action in ("expand", "get"):
        if not rest:
            raise click.UsageError(
                f"multi {action} needs {'a template' if action == 'expand' else 'a node'} and nodes."
            )
        first = rest.pop(0)
        ours = Cluster.expand if action == "expand" else Cluster.get
        commands[action] = lambda cluster: ours(cluster, first)
    if action not in commands:
        choices = ", ".join(sorted({*commands, "expand", "get"}))
        raise click.UsageError(f"No such action {action!r}; there are {choices}.")
    request = parse(rest)
    above = [("-A", context.spec), ("-b", context.broker), ("--result-backend", context.backend)]
    request.application[:0] = [word for option, value in above if value for word in (option, value)]
    if context.as_celery:
        request.application.insert(0, "--as-celery")
    reporter = Reporter(verbose=request.verbose, quiet=request.quiet, color=request.color)
    sys.exit(0 if commands[action](Cluster(request, reporter)) else 1)
