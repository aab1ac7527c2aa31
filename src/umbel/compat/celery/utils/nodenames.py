"""``celery.utils.nodenames``: names of nodes and of what belongs to them."""

from __future__ import annotations

import os
import socket
from typing import Any

from umbel import queues
from umbel.compat.celery.utils.text import simple_format
from umbel.queues import Queue

__all__ = [
    "anon_nodename",
    "default_nodename",
    "gethostname",
    "host_format",
    "node_format",
    "nodename",
    "nodesplit",
    "worker_direct",
]

NODENAME_SEP = "@"
NODENAME_DEFAULT = "celery"

gethostname = socket.gethostname


def worker_direct(hostname: str | Queue) -> Queue:
    """The queue of one worker's own, by its node name; a queue as it is."""
    if isinstance(hostname, Queue):
        return hostname
    return queues.worker_direct(hostname)


def nodename(name: str, hostname: str) -> str:
    """``name@hostname``."""
    return f"{name}{NODENAME_SEP}{hostname}"


def anon_nodename(hostname: str | None = None, prefix: str = "gen") -> str:
    """The name of a process that is no worker: ``gen<pid>@<host>``."""
    return nodename(f"{prefix}{os.getpid()}", hostname or gethostname())


def nodesplit(name: str) -> tuple[str | None, str]:
    """The name and the host of a node; the name is None where there is no ``@``."""
    before, separator, after = name.partition(NODENAME_SEP)
    return (before, after) if separator else (None, before)


def default_nodename(hostname: str | None, default_name: str = NODENAME_DEFAULT) -> str:
    """A whole node name of a part: ``celery@<this host>`` of nothing."""
    name, host = nodesplit(hostname or "")
    return nodename(name or default_name, host or gethostname())


def node_format(s: str, name: str, **extra: Any) -> str:
    """``s`` with ``%p``, ``%n``, ``%h``, ``%d``, ``%i`` and ``%I`` for the node ``name``."""
    shortname, host = nodesplit(name)
    return host_format(s, host, shortname or NODENAME_DEFAULT, p=name, **extra)


def host_format(s: str, host: str | None = None, name: str | None = None, **extra: Any) -> str:
    """``s`` with ``%h`` the host, ``%n`` the name (default: the host without domain), ``%d`` the domain, ``%i`` and
    ``%I`` the number of the process: 0 and nothing, as in a supervisor."""
    host = host or gethostname()
    short, _, domain = host.partition(".")
    return simple_format(s, {"h": host, "n": name or short, "d": domain, "i": "0", "I": "", **extra})
