"""``umbel report``: what a bug report should say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from umbel.cli.output import write_json, write_pairs

if TYPE_CHECKING:
    from umbel.cli import Context


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_obj
def report(context: Context, as_json: bool) -> None:
    """Show versions, broker, result backend and changed settings, fit to be pasted into a bug report.

    Passwords and keys are masked. Nothing is connected.

    \b
    Examples:
      umbel report
      umbel -A proj report --json
    """
    from umbel.bug_report import as_text, describe

    document = describe(context.app)
    if as_json:
        write_json(document)
        return
    for name in ("libraries", "settings"):
        document[name] = "\n".join(f"{key} {as_text(value)}" for key, value in document[name].items()) or None
    write_pairs(document.items())
