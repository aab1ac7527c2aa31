"""``umbel logtool``: what the logs of workers say about tasks.

Read are both styles of Umbel's log, text and JSON; lines of other programs in between are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import IO

import click
import msgspec
from msgspec import Struct, field

from umbel.cli.output import count_of, write_table
from umbel.log import TASK_LOGGER

_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ([A-Z]+) +([\w.]+): (.*)")
_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_TRACE = "Traceback "
_EVENT = re.compile(r"(?:task|message) (.+?)(?= \w+=|$)")

_ENDS = {"succeeded", "failed", "ignored", "rejected", "revoked", "expired", "not run", "dead-lettered"}
"""Events of a task after which it is not run again."""


class Entry(Struct):
    """A record of a log. ``event``: what happened to the task ``id``, without the word "task"; "" for other records.
    ``lines``: the record as it is written, with its traceback."""

    level: str
    logger: str
    event: str = ""
    task: str = ""
    id: str = ""
    lines: list[str] = field(default_factory=list[str])
    trace: str = ""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def traceback(self) -> str:
        """The traceback that was logged with it, "" where there was none."""
        if self.trace:
            return self.trace
        begins = next((number for number, line in enumerate(self.lines) if number and _TRACE in line), None)
        return "" if begins is None else "\n".join(self.lines[begins:])


class _Written(Struct):
    """What a line in JSON has."""

    level: str
    logger: str
    event: str
    task: str = ""
    id: str = ""
    exception: str = ""


def read_log(lines: Iterable[str]) -> Iterator[Entry]:
    """The records of a log, in order."""
    entry: Entry | None = None
    for raw in lines:
        line = raw.rstrip("\n")
        begun = _entry(line)
        if begun is None:
            if entry is not None:
                entry.lines.append(line)
            continue
        if entry is not None:
            yield entry
        entry = begun
    if entry is not None:
        yield entry


def _entry(line: str) -> Entry | None:
    """The record that begins with this line, None for a line that continues one."""
    if line.startswith("{"):
        try:
            said = msgspec.json.decode(line, type=_Written)
        except msgspec.DecodeError:
            return None
        first, _, rest = said.event.partition("\n")
        trace = said.exception or (rest if rest.startswith(_TRACE) else "")
        return Entry(said.level, said.logger, _event(said.logger, first, said.id), said.task, said.id, [line], trace)
    found = _LINE.match(line)
    if found is None:
        return None
    level, logger, message = found.groups()
    data = {name: value.strip('"') for name, value in _PAIR.findall(message)}
    return Entry(
        level, logger, _event(logger, message, data.get("id", "")), data.get("task", ""), data.get("id", ""), [line]
    )


def _event(logger: str, message: str, task_id: str) -> str:
    found = _EVENT.match(message) if task_id and logger == TASK_LOGGER else None
    return found[1] if found is not None else ""


@click.group()
def logtool() -> None:
    """Read the logs of workers."""


_files = click.argument("files", nargs=-1, type=click.File(encoding="utf-8", errors="replace"), required=True)


@logtool.command()
@_files
def stats(files: tuple[IO[str], ...]) -> None:
    """Count what happened to the tasks in FILES ("-": standard input), by task.

    \b
    Examples:
      umbel logtool stats worker.log
    """
    counts: dict[tuple[str, str], int] = {}
    for entry in _entries(files):
        if entry.event:
            key = entry.task, entry.event
            counts[key] = counts.get(key, 0) + 1
    write_table(("task", "event", "count"), [(*key, counts[key]) for key in sorted(counts)])


@logtool.command()
@_files
def traces(files: tuple[IO[str], ...]) -> None:
    """Show every traceback in FILES once, with how often it is there; the most frequent one first."""
    found: dict[str, int] = {}
    for entry in _entries(files):
        if entry.traceback:
            found[entry.traceback] = found.get(entry.traceback, 0) + 1
    for trace, times in sorted(found.items(), key=lambda each: -each[1]):
        click.echo(f"{count_of(times, 'time')}:\n{trace}\n")


@logtool.command()
@_files
def errors(files: tuple[IO[str], ...]) -> None:
    """Show the records in FILES of level ERROR and above, with their tracebacks."""
    _show(files, {"ERROR", "CRITICAL"})


@logtool.command()
@_files
def incomplete(files: tuple[IO[str], ...]) -> None:
    """Show the tasks that FILES mention last with something else than their end: retried, parked, process lost.

    Workers log no begin of a task: what is running now is not shown. Give the logs of all workers that may have run
    the rest, in the order of time.
    """
    last: dict[str, Entry] = {}
    for entry in _entries(files):
        if entry.event:
            last[entry.id] = entry
    rows = [(each.id, each.task, each.event) for each in last.values() if each.event not in _ENDS]
    write_table(("id", "task", "event"), rows)


@logtool.command()
@_files
def debug(files: tuple[IO[str], ...]) -> None:
    """Show the records in FILES of level DEBUG."""
    _show(files, {"DEBUG"})


def _show(files: Iterable[IO[str]], levels: set[str]) -> None:
    for entry in _entries(files):
        if entry.level in levels:
            click.echo(entry.text)


def _entries(files: Iterable[IO[str]]) -> Iterator[Entry]:
    for file in files:
        yield from read_log(file)
