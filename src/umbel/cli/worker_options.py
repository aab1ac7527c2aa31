"""Options of ``umbel worker`` that are about the process: where it runs, as whom, what it writes; and those of Celery
that need nothing done in Umbel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from msgspec import Struct

from umbel.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])


class ServiceOptions(Struct, kw_only=True):
    """What the options below say."""

    detach: bool
    pidfile: str | None
    workdir: str | None
    uid: str | None
    gid: str | None
    umask: str | None
    executable: str | None
    health_port: str | None
    max_tasks_per_child: int | None
    max_memory_per_child: int | None
    prefetch_multiplier: int | None
    disable_prefetch: bool
    autoscale: str | None
    reload: bool
    reload_dir: tuple[str, ...]
    task_events: bool
    include: str | None
    optimization: str
    statedb: str | None
    beat: bool
    without_gossip: bool
    without_mingle: bool
    without_heartbeat: bool
    heartbeat_interval: int | None

    def check(self) -> None:
        """Raises ConfigurationError for what cannot be done."""
        if self.beat:
            raise ConfigurationError(
                "-B (--beat): Umbel has no scheduler yet; until it has, run the worker without -B and send "
                "periodic tasks by cron or another scheduler"
            )

    def settings(self) -> dict[str, Any]:
        """Settings that options take the place of."""
        given: dict[str, Any] = {
            "worker_prefetch_multiplier": self.prefetch_multiplier,
            "worker_disable_prefetch": self.disable_prefetch or None,
            "worker_autoscale": self.autoscale,
            "worker_reload": self.reload or bool(self.reload_dir) or None,
            "worker_reload_dirs": list(self.reload_dir) or None,
            "worker_max_tasks_per_child": self.max_tasks_per_child,
            "worker_max_memory_per_child": self.max_memory_per_child,
            "worker_send_task_events": self.task_events or None,
            "worker_health_address": self.health_port,
            "worker_pidfile": self.pidfile,
            "worker_umask": self.umask,
            "worker_uid": self.uid,
            "worker_gid": self.gid,
        }
        return {name: value for name, value in given.items() if value is not None}


_OPTIONS = [
    click.option(
        "--prefetch-multiplier", type=click.IntRange(min=0), help="Messages held per executor [default: adaptive]."
    ),
    click.option("--disable-prefetch", is_flag=True, help="Take a task only when an executor is free."),
    click.option(
        "--autoscale",
        metavar="MAX,MIN",
        help="Scale by load between so many tasks at a time; with prefork, processes. MIN is 0 where not given.",
    ),
    click.option("--max-tasks-per-child", type=click.IntRange(min=1), help="Replace an executor after so many tasks."),
    click.option(
        "--max-memory-per-child",
        type=click.IntRange(min=1),
        metavar="KIB",
        help="Replace an executor whose resident memory is above KIB after a task.",
    ),
    click.option(
        "--reload", is_flag=True, help="Start anew when the project's code changes; running tasks end on the old code."
    ),
    click.option(
        "--reload-dir",
        multiple=True,
        metavar="DIR",
        help="Reload when code in DIR or below changes, instead of where the code comes from; may be repeated.",
    ),
    click.option("-I", "--include", metavar="A,B", help="Modules with tasks to import as well."),
    click.option("-D", "--detach", is_flag=True, help="Run in the background; returns once the worker has begun."),
    click.option(
        "--pidfile",
        type=click.Path(dir_okay=False),
        help="Write the process id here, refuse to start while its owner lives; %n node, %h host, %d domain.",
    ),
    click.option("--workdir", metavar="DIR", help="Change to this directory first."),
    click.option("--uid", metavar="USER", help="Run as this user (as root only), with its groups."),
    click.option("--gid", metavar="GROUP", help="Run as this group (as root only)."),
    click.option("--umask", metavar="OCTAL", help="Mask for the modes of files, e.g. 022."),
    click.option("--executable", type=click.Path(dir_okay=False), metavar="PYTHON", help="Run by this Python instead."),
    click.option(
        "--health-port",
        metavar="[HOST:]PORT",
        help="Answer /livez and /readyz over HTTP here [default host: all interfaces].",
    ),
    click.option(
        "-E",
        "--task-events",
        "--events",
        "task_events",
        is_flag=True,
        help="Set worker_send_task_events. The stream of events itself comes in a later version.",
    ),
    click.option("-B", "--beat", is_flag=True, help="Run the scheduler inside. There is none yet: this is an error."),
    click.option(
        "-O",
        "--optimization",
        type=click.Choice(["default", "fair"]),
        default="fair",
        help="Accepted as in Celery: Umbel is always fair, an idle executor gets what a busy one has not begun.",
    ),
    click.option(
        "-S", "--statedb", metavar="PATH", help="Accepted as in Celery; what a worker must remember is in the broker."
    ),
    click.option("--without-gossip", is_flag=True, help="Accepted as in Celery; there is no gossip."),
    click.option("--without-mingle", is_flag=True, help="Accepted as in Celery; workers start without asking others."),
    click.option("--without-heartbeat", is_flag=True, help="Accepted as in Celery; leases are renewed all the same."),
    click.option(
        "--heartbeat-interval",
        type=click.IntRange(min=0),
        metavar="SECONDS",
        help="Accepted as in Celery; see the setting worker_lease_renewal.",
    ),
]


def service_options(command: F) -> F:
    """Gives a command these options, as keyword arguments for ``ServiceOptions``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
