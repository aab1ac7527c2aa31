"""Names of nodes, and the ``%``-formats with which files are named after them.

In a node's name: ``%h`` the host with its domain, ``%n`` the host alone, ``%d`` the domain, ``%%`` a percent sign. In
names of files: ``%p`` the node's whole name, ``%n`` its part before the ``@``, ``%h`` and ``%d`` its host and domain;
``%i`` and ``%I`` the number of the process: 0 and nothing in the supervisor, ``2`` and ``-2`` in the second executor.
A node has one name for all its processes, so that in it ``%i`` is 0 and ``%I`` nothing.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

DEFAULT = "umbel@%h"

_FORMAT = re.compile("%(.)")


def node_name(template: str = DEFAULT, host: str | None = None) -> str:
    """``template`` as the name of a node on ``host`` (default: this one); ``@host`` follows where it has none."""
    host = host or socket.gethostname()
    short, _, domain = host.partition(".")
    name = _replaced(template, {"h": host, "n": short, "d": domain, "i": "0", "I": "", "%": "%"})
    return name if "@" in name else f"{name}@{host}"


def for_node(template: str, node: str) -> str:
    """``template``, the name of a file, for one node; ``%i`` and ``%I`` are left for ``for_process``."""
    name, _, host = node.partition("@")
    return _replaced(template, {"p": node, "n": name, "h": host, "d": host.partition(".")[2], "%": "%"})


def for_process(template: str, process: int) -> str:
    """``template`` for one process of a node: 0 is the supervisor, from 1 on its executors."""
    return _replaced(template, {"i": str(process), "I": f"-{process}" if process else ""})


def _replaced(template: str, values: Mapping[str, str]) -> str:
    return _FORMAT.sub(lambda found: values.get(found[1], found[0]), template)
