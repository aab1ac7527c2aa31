"""What commands write: tables for people on a terminal, tab-separated lines for pipes, JSON for programs.

Rich is imported for a terminal only. ``NO_COLOR`` is honoured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, cast

import click
import msgspec


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def coloured() -> bool:
    """Whether to write colours to standard output."""
    return on_terminal() and not os.environ.get("NO_COLOR")


def write_json(value: Any, *, indent: int = 2) -> None:
    """Write ``value`` as JSON, with 0 for ``indent`` on one line; what JSON cannot express becomes its ``repr``."""
    encoded = msgspec.json.encode(_with_text_keys(value), enc_hook=repr)
    click.echo(msgspec.json.format(encoded, indent=indent) if indent else encoded)


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        held = cast("dict[Any, Any]", value)
        return {key if isinstance(key, str) else str(key): _with_text_keys(each) for key, each in held.items()}
    return [_with_text_keys(each) for each in cast("list[Any]", value)] if isinstance(value, (list, tuple)) else value


def write_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows under their column names; numbers stand to the right. None is shown as ``-``."""
    if not on_terminal():
        for line in (columns, *rows):
            click.echo("\t".join(_on_one_line(_text(cell)) for cell in line))
        return
    from rich.console import Console

    Console(highlight=False, no_color=not coloured()).print(rich_table(columns, rows))


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Any:
    """The table as rich draws it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    kept = list(rows)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numbers = bool(kept) and all(isinstance(row[index], (int, float)) for row in kept)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in kept:
        table.add_row(*(Text(_text(cell)) for cell in row))
    return table


def write_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Write one ``name  value`` a line, names padded to the same width; values of several lines are indented."""
    kept = [(name, _text(value)) for name, value in pairs]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        shown = value.replace("\n", "\n" + " " * (width + 2))
        click.echo(f"{click.style(f'{name:<{width}}', bold=True) if coloured() else f'{name:<{width}}'}  {shown}")


def count_of(number: int, noun: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _on_one_line(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ")
