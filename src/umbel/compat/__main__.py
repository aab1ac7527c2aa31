"""``python -m umbel.compat PATH``: what a Celery project uses that differs on Umbel."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from umbel.compat.scan import Level, Report, scan
from umbel.errors import ConfigurationError

MISSING = 1
"""Exit status when something is used that Umbel does not have."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def main(path: Path, as_json: bool) -> None:
    """List what the Celery project at PATH uses that Umbel does not have, or does in another way.

    PATH is a directory or a file. Its source is read, nothing is imported or run. Each line has file, line, and one of:

    \b
    missing     it fails on Umbel
    differs     it works, in another way
    ignored     it has no effect on Umbel
    unreadable  the file is no Python

    The exit status is 0 when nothing is missing or unreadable, 1 otherwise, and 2 for wrong usage. What is done at run
    time only, such as settings from the environment, is not seen.

    \b
    Examples:
      python -m umbel.compat .
      python -m umbel.compat src/proj --json | jq '.findings[] | select(.level == "missing")'
    """
    try:
        report = scan(path)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    write_json(report) if as_json else write_text(report)
    sys.exit(MISSING if report.count(Level.MISSING) or report.count(Level.UNREADABLE) else 0)


def write_json(report: Report) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))


def write_text(report: Report) -> None:
    for finding in report.findings:
        click.echo(str(finding))
    counts = ", ".join(f"{report.count(level)} {level}" for level in Level if report.count(level))
    click.echo(f"{report.files} files read: {counts or 'nothing differs'}", err=True)


if __name__ == "__main__":
    main(prog_name="python -m umbel.compat")
