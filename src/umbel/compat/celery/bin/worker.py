"""``celery.bin.worker``: ``umbel worker`` as a click command, and the types of its options."""

from __future__ import annotations

from typing import Any

import click

from umbel.autoscaling import Bounds
from umbel.cli.worker import worker
from umbel.compat.celery.bin.base import Choice, ParamType
from umbel.compat.celery.utils.nodenames import default_nodename, host_format
from umbel.errors import ConfigurationError

__all__ = ["AUTOSCALE", "HOSTNAME", "WORKERS_POOL", "Autoscale", "Hostname", "WorkersPool", "worker"]


class WorkersPool(Choice):
    """A pool by its name."""

    name = "pool"

    def __init__(self) -> None:
        super().__init__(("prefork", "eventlet", "gevent", "solo", "processes", "threads", "custom"))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The kind of lanes that such a pool has."""
        from umbel.executors.lanes import find_lanes

        try:
            return find_lanes(str(value))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


class Hostname(click.types.StringParamType):
    """The name of a node, in which ``%h``, ``%n`` and ``%d`` stand for the host."""

    name = "hostname"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return host_format(default_nodename(value))


class Autoscale(ParamType):
    """``MAX,MIN`` or ``MAX``."""

    name = "<min workers>, <max workers>"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Most and least tasks at a time."""
        try:
            return tuple(Bounds.parse(str(value)))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


WORKERS_POOL = WorkersPool()
HOSTNAME = Hostname()
AUTOSCALE = Autoscale()
