"""The tasks that a task has sent, and those that these have sent: walked, read and drawn."""

from __future__ import annotations

import graphlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from umbel.errors import IncompleteStream
from umbel.results.arrivals import load

if TYPE_CHECKING:
    from umbel.results.single import AsyncResult

Node = Any
"""A result of one task or of a group."""


def descend(root: AsyncResult[Any], intermediate: bool) -> Iterator[tuple[Node | None, Node]]:
    """Parent and child for each result below ``root`` and ``root`` itself, level by level.

    A level is read from the store at once. Below a task that has not ended nothing is known: raises IncompleteStream
    there, unless ``intermediate``.
    """
    waiting: deque[tuple[Node | None, Node]] = deque([(None, root)])
    unread = 0
    while waiting:
        if not unread:
            load(root.backend, [leaf for _, node in waiting for leaf in node.leaves()])
            unread = len(waiting)
        parent, node = waiting.popleft()
        unread -= 1
        yield parent, node
        if node.ready():
            waiting.extend((node, child) for child in node.children or ())
        elif not intermediate:
            raise IncompleteStream(f"task {node.id} has not ended: what it sends is not known yet")


class GraphFormatter:
    """How a graph is written in Graphviz's language. Override ``label`` to name nodes otherwise.

    ``root``: the graph's name. Further arguments are attributes of all nodes.
    """

    def __init__(self, root: str | None = None, **scheme: Any) -> None:
        self.root = root
        self.scheme = {"shape": "oval", **scheme}

    def label(self, node: Node) -> str:
        """The text in a node."""
        name = getattr(node, "task_name", None) or getattr(node, "name", None)
        return f"{name} {node.id}" if name else str(node)

    def head(self) -> str:
        scheme = ", ".join(f"{name}={_quoted(value)}" for name, value in self.scheme.items())
        return f"digraph {_quoted(self.root or 'dependencies')} {{\n    node [{scheme}]"

    def node(self, node: Node) -> str:
        return f"    {_quoted(node)} [label={_quoted(self.label(node))}]"

    def edge(self, above: Node, below: Node) -> str:
        return f"    {_quoted(above)} -> {_quoted(below)}"

    def tail(self) -> str:
        return "}"


class DependencyGraph(Mapping[Node, list[Node]]):
    """Results, each with those of the tasks that it has sent, in the order in which they were found."""

    def __init__(self, formatter: GraphFormatter | None = None) -> None:
        self.formatter = formatter or GraphFormatter()
        self._below: dict[Node, list[Node]] = {}

    def add_arc(self, node: Node) -> None:
        """Take in a node."""
        self._below.setdefault(node, [])

    def add_edge(self, above: Node, below: Node) -> None:
        """``above`` has sent ``below``. Raises KeyError when ``above`` is not in."""
        self._below[above].append(below)

    def edges(self) -> list[Node]:
        """The nodes that have sent anything."""
        return [node for node, below in self._below.items() if below]

    def topsort(self) -> list[Node]:
        """All nodes, each after those that it has sent."""
        return list(graphlib.TopologicalSorter(self._below).static_order())

    def valency_of(self, node: Node) -> int:
        """How many nodes there are in ``node`` and below."""
        count, left = 0, [node]
        while left:
            count += 1
            left += self._below.get(left.pop(), ())
        return count

    def to_dot(self, fh: IO[str], formatter: GraphFormatter | None = None) -> None:
        """Write it in Graphviz's language."""
        drawn = formatter or self.formatter
        lines = [drawn.head(), *map(drawn.node, self._below)]
        lines += [drawn.edge(above, below) for above, some in self._below.items() for below in some]
        fh.write("\n".join([*lines, drawn.tail(), ""]))

    def __getitem__(self, node: Node) -> list[Node]:
        return self._below[node]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._below)

    def __len__(self) -> int:
        return len(self._below)

    def __repr__(self) -> str:
        return "\n".join(f"{node}: {', '.join(map(str, below)) or '-'}" for node, below in self._below.items())


def graph_of(root: AsyncResult[Any], intermediate: bool, formatter: GraphFormatter | None) -> DependencyGraph:
    """The graph below a result. Raises IncompleteStream as ``descend``."""
    graph = DependencyGraph(formatter or GraphFormatter(root=root.id))
    for parent, node in descend(root, intermediate):
        graph.add_arc(node)
        if parent is not None:
            graph.add_edge(parent, node)
    return graph


def _quoted(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
