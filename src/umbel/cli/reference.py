"""``python -m umbel.cli.reference [FILE]``: write the reference of all commands to FILE, or to standard output.

The page is made of what ``--help`` shows.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from umbel.cli import umbel
from umbel.config.pages import write_page

_WIDTH = 100
_HELP = ["-h", "--help"]
_INTRODUCTION = """\
# Command line

<!-- Written by `python -m umbel.cli.reference docs/reference/cli.md` from the commands; do not edit. -->

`umbel` is also to be had as `python -m umbel`. Options that stand before the command are about the application; each of
them goes before what the application itself and the environment say. On a terminal, lists are drawn as tables; in a
pipe they are lines of cells separated by tabs, and `--json` gives JSON. Colours are left out in a pipe, and where
`NO_COLOR` is set.

An error is one line on standard error; `--debug` shows its traceback. Exit status: 0 done, 1 failed, 2 wrong usage.
`call` and `result` exit with 1 when the task failed, and with 124 when it did not end in time.
"""


def page() -> str:
    """The page in Markdown."""
    return "\n".join([_INTRODUCTION, *_section(umbel, click.Context(umbel, info_name="umbel"))])


def _section(command: click.Command, above: click.Context) -> Iterator[str]:
    path = above.command_path
    context = click.Context(
        command,
        info_name=above.info_name,
        parent=above.parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=_HELP,
    )
    yield f"## `{path}`\n"
    yield f"```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _section(found, click.Context(found, info_name=name, parent=context))


if __name__ == "__main__":
    write_page("umbel.cli.reference", "the reference of all commands", page)
