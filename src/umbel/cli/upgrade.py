"""``umbel upgrade``: the settings of a project under their present names."""

from __future__ import annotations

import ast
import io
import shutil
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from umbel.cli.output import count_of
from umbel.errors import ConfigurationError

_DJANGO_PREFIX = "CELERY_"
BACKUP = ".orig"
"""Ends the name of the copy of a file as it was."""


@click.group()
def upgrade() -> None:
    """Bring a project to newer names."""


@upgrade.command()
@click.argument("filename", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--django", is_flag=True, help="Names as in Django's settings: CELERY_ before them, in upper case.")
@click.option("--compat", is_flag=True, help="The same as --django: these names are understood besides the old ones.")
@click.option("--no-backup", is_flag=True, help="Keep no copy of the file as it was.")
def settings(filename: Path, django: bool, compat: bool, no_backup: bool) -> None:
    """Give settings in the Python file FILENAME their present names instead of those of Celery 3.

    Changed are names in code, and texts that are such a name and nothing else, as the keys of a dict. A copy of the
    file is kept with .orig after its name.

    \b
    Examples:
      umbel upgrade settings proj/celeryconfig.py
      umbel upgrade settings proj/settings.py --django
    """
    with tokenize.open(filename) as file:
        encoding = file.encoding
    before = filename.read_bytes().decode(encoding)
    try:
        after, changed = renamed(before, _in_django if django or compat else _plain)
    except (SyntaxError, tokenize.TokenError) as error:
        raise ConfigurationError(f"{filename} is not valid Python: {error}") from error
    if not changed:
        click.echo(f"{filename}: nothing to change")
        return
    if not no_backup:
        shutil.copy2(filename, f"{filename}{BACKUP}")
    filename.write_bytes(after.encode(encoding))
    kept = "" if no_backup else f", as it was: {filename}{BACKUP}"
    click.echo(f"{filename}: {count_of(changed, 'name')} changed{kept}")


def renamed(source: str, new_name: Callable[[str], str]) -> tuple[str, int]:
    """Python source with old names of settings replaced, and how many were. Raises SyntaxError."""
    lines = source.splitlines(keepends=True)
    changes = list(_changes(source, new_name))
    for (row, start), (_, end), text in reversed(changes):
        line = lines[row - 1]
        lines[row - 1] = line[:start] + text + line[end:]
    return "".join(lines), len(changes)


def _changes(source: str, new_name: Callable[[str], str]) -> Iterator[tuple[tuple[int, int], tuple[int, int], str]]:
    """Places on one line, and what is to stand there."""
    from umbel.config import OLD_NAMES

    ast.parse(source)
    for token in tokenize.generate_tokens(io.StringIO(source, newline="").readline):
        if token.type == tokenize.NAME:
            old = token.string
        elif token.type == tokenize.STRING and (value := ast.literal_eval(token.string)) in OLD_NAMES:
            old = str(value)
        else:
            continue
        if old in OLD_NAMES and (new := new_name(OLD_NAMES[old])) != old:
            yield token.start, token.end, token.string.replace(old, new)


def _plain(name: str) -> str:
    return name


def _in_django(name: str) -> str:
    return _DJANGO_PREFIX + name.upper()
