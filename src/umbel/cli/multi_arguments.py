"""The arguments of ``umbel multi``: which nodes, and which options of ``umbel worker`` are for which of them."""

from __future__ import annotations

import re
import signal
import socket
from dataclasses import dataclass, field

import click

from umbel.cli import umbel
from umbel.cli.worker import worker

_RANGE = re.compile(r"(\d+)-(\d+)")
_SIGNAL = re.compile(r"-(?:\d+|(?:SIG)?[A-Z]{3,}\d?)")
_OWN = {"--prefix", "--suffix", "--range-prefix", "--executable"}
_OWN_FLAGS = {"-v", "--verbose", "-q", "--quiet", "--no-color", "--nosplash"}
_GLOBAL = {"-A", "--app", "-b", "--broker", "--result-backend", "--workdir", "--debug"}
_DEFAULT_FILES = {"--pidfile": "%n.pid", "--logfile": "%n%I.log"}
_SAME = {"-f": "--logfile"}


@dataclass
class NodeSpec:
    """One node: its full name, and its options in order; None for a flag's value."""

    name: str
    options: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, "str | None"]])

    def option(self, name: str) -> str:
        """The value that holds: the last one given. ``name`` is one of the files'."""
        values = [value for option, value in self.options if option == name and value is not None]
        return values[-1] if values else _DEFAULT_FILES[name]

    def arguments(self) -> list[str]:
        """The options as words of a command line, without those about files."""
        words: list[str] = []
        for option, value in self.options:
            if option in _DEFAULT_FILES:
                continue
            words += [option] if value is None else [f"{option}={value}"] if option[:2] == "--" else [option, value]
        return words


@dataclass
class Request:
    """What was asked for.

    ``application``: words that stand before ``worker``; ``passed_on``: what stood after ``--``.
    """

    nodes: list[NodeSpec]
    application: list[str] = field(default_factory=list[str])
    passed_on: list[str] = field(default_factory=list[str])
    signal: signal.Signals | None = None
    executable: str | None = None
    verbose: bool = False
    quiet: bool = False
    color: bool | None = None


@dataclass
class _Option:
    name: str
    scope: str
    value: str | None


def parse(words: list[str]) -> Request:
    """Raises UsageError."""
    passed_on: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, passed_on = words[:at], words[at + 1 :]
    names, options, sent = _split(words)
    own = {option.name: option.value for option in options if option.name in _OWN | _OWN_FLAGS}
    nodes, numbered = _nodes(names, own)
    request = Request(
        nodes,
        passed_on=passed_on,
        signal=sent,
        executable=own.get("--executable"),
        verbose=bool(own.keys() & {"-v", "--verbose"}),
        quiet=bool(own.keys() & {"-q", "--quiet"}),
        color=False if "--no-color" in own else None,
    )
    for option in options:
        if option.name in own:
            continue
        if option.name in _GLOBAL:
            if option.scope:
                raise click.UsageError(f"{option.name} is for all nodes, it takes no :{option.scope}")
            request.application += [option.name] if option.value is None else [option.name, option.value]
            continue
        for node in _scope(option, nodes, numbered):
            node.options.append((_SAME.get(option.name, option.name), option.value))
    return request


def _split(words: list[str]) -> tuple[list[str], list[_Option], signal.Signals | None]:
    """Names of nodes, options, and a signal such as ``-9`` or ``-QUIT``."""
    names: list[str] = []
    options: list[_Option] = []
    sent: signal.Signals | None = None
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            names.append(word)
        elif _SIGNAL.fullmatch(word):
            sent = _signal(word[1:])
        else:
            head, has_value, value = word.partition("=") if word.startswith("--") else (word, "", "")
            name, _, scope = head.partition(":")
            if not word.startswith("--") and len(name) > 2:
                name, value, has_value = name[:2], head[2:], "attached"
                scope = ""
            if not _takes_value(name):
                if has_value:
                    raise click.UsageError(f"{name} takes no value.")
                options.append(_Option(name, scope, None))
                continue
            if not has_value:
                value = next(rest, None)
                if value is None:
                    raise click.UsageError(f"{head} needs a value.")
            options.append(_Option(name, scope, value))
    return names, options, sent


def _takes_value(name: str) -> bool:
    """Whether an option of ``worker``, of ``umbel`` or of ``multi`` takes a value. Raises UsageError for others."""
    if name in _OWN:
        return True
    if name in _OWN_FLAGS:
        return False
    for parameter in (*worker.params, *umbel.params):
        if isinstance(parameter, click.Option) and name in parameter.opts:
            return not parameter.is_flag
    raise click.UsageError(f"No such option {name!r} of `umbel worker`.")


def _signal(text: str) -> signal.Signals:
    try:
        return signal.Signals(int(text)) if text.isdecimal() else signal.Signals[f"SIG{text.removeprefix('SIG')}"]
    except (ValueError, KeyError):
        raise click.UsageError(f"No such signal {text!r}.") from None


def _nodes(names: list[str], own: dict[str, str | None]) -> tuple[list[NodeSpec], bool]:
    """The nodes, and whether they are numbered."""
    if not names:
        raise click.UsageError("Which nodes? Give their names, or how many.")
    suffix = own.get("--suffix")
    host = socket.gethostname() if suffix is None else suffix.strip("\"'")
    numbered = len(names) == 1 and names[0].isdecimal()
    if numbered:
        prefix = own.get("--range-prefix") or own.get("--prefix") or "umbel"
        names = [f"{prefix}{number}" for number in range(1, int(names[0]) + 1)]
    elif prefix := own.get("--prefix"):
        names = [f"{prefix}{name}" for name in names]
    if not names:
        raise click.UsageError("How many nodes? At least one.")
    nodes = [NodeSpec(name if "@" in name else f"{name}@{host}") for name in names]
    twice = sorted({node.name for node in nodes if sum(node.name == other.name for other in nodes) > 1})
    if twice:
        raise click.UsageError(f"Node {twice[0]} is named twice.")
    return nodes, numbered


def _scope(option: _Option, nodes: list[NodeSpec], numbered: bool) -> list[NodeSpec]:
    """The nodes for which an option is: all, or those that its scope names, by name, position or range."""
    if not option.scope:
        return nodes
    found: list[NodeSpec] = []
    for word in option.scope.split(","):
        named = [node for node in nodes if word in (node.name, node.name.partition("@")[0])]
        if not named and word.isdecimal():
            named = nodes[int(word) - 1 : int(word)] if int(word) else []
        elif not named and (limits := _RANGE.fullmatch(word)):
            first, last = int(limits[1]), int(limits[2])
            named = nodes[first - 1 : last] if 0 < first <= last <= len(nodes) else []
        if not named:
            which = f"1 to {len(nodes)}" if numbered else ", ".join(node.name for node in nodes)
            raise click.UsageError(f"{option.name}:{option.scope}: there is no node {word!r}; the nodes are {which}.")
        found += [node for node in named if node not in found]
    return found
