"""Commands that other packages add to the command line."""

from __future__ import annotations

from pathlib import Path

from compat.conftest import Run

COMMAND = """\
import click
from {0} import {1}

@click.command(cls={2})
@click.option("--loud", is_flag=True)
@click.pass_context
def greet(ctx, loud):
    "Greets."
    print(type(ctx.obj).__name__, ctx.obj.app.main, loud, ctx.obj.quiet)
"""


def package(directory: Path, group: str, source: str) -> Path:
    info = directory / "greeting-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\ngreet = greeting:greet\n")
    (directory / "greeting.py").write_text(source)
    (directory / "greeted.py").write_text("from umbel import Umbel\napp = Umbel('there')\n")
    return directory


def test_a_command_of_a_package(python: Run, tmp_path: Path) -> None:
    site = package(tmp_path / "site", "umbel.commands", COMMAND.format("umbel", "Umbel", "click.Command"))
    called = python("", path=site, arguments=("-m", "umbel", "-q", "-A", "greeted", "greet", "--loud"))
    assert called == "Context there True True\n"
    assert "Of greeting." in python("", path=site, arguments=("-m", "umbel", "--help"))


def test_a_command_for_celery(python: Run, tmp_path: Path) -> None:
    site = package(
        tmp_path / "site", "celery.commands", COMMAND.format("celery.bin.base", "CeleryCommand", "CeleryCommand")
    )
    as_celery = ("-m", "umbel", "--as-celery", "-A", "greeted", "greet")
    assert python("", path=site, arguments=as_celery) == "CLIContext there False False\n"
    assert "No such command" in python("", path=site, arguments=("-m", "umbel", "greet"), fails=True)
