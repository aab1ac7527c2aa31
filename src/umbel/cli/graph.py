"""``umbel graph``: drawings of what a worker is made of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umbel.errors import UmbelError

if TYPE_CHECKING:
    from umbel.cli import Context

_TEXT = (".dot", ".gv")


class GraphvizError(UmbelError):
    """A picture cannot be drawn."""


@click.group()
def graph() -> None:
    """Draw what a worker is made of."""


@graph.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.pass_obj
def bootsteps(context: Context, output: Path | None) -> None:
    """Draw the boot steps of worker and consumer, in DOT, the language of graphviz.

    An arrow points to what a step requires; numbers are the order of starting; added steps are filled. With a file
    whose name ends in .svg, .png or another format of graphviz, its program `dot` draws a picture.

    \b
    Examples:
      umbel -A proj graph bootsteps
      umbel -A proj graph bootsteps --output steps.svg
    """
    from umbel.bootsteps import Blueprint, draw
    from umbel.worker import components, consumer

    app = context.app
    app.import_task_modules()
    text = draw(
        [
            Blueprint(app.steps["worker"], "worker", default_steps=components.STEPS),
            Blueprint(app.steps["consumer"], "consumer", default_steps=consumer.STEPS),
        ]
    )
    if output is None:
        click.echo(text, nl=False)
    elif output.suffix in _TEXT:
        output.write_text(text, encoding="utf-8")
    else:
        _picture(text, output)


def _picture(text: str, output: Path) -> None:
    """Raises GraphvizError."""
    if not output.suffix:
        raise GraphvizError(f"{output} has no ending that says in which format to write, such as .svg, .png or .dot")
    dot = shutil.which("dot")
    if dot is None:
        raise GraphvizError(
            f"{output} needs graphviz, whose program 'dot' is not installed (apt-get install graphviz, brew install "
            "graphviz); a file that ends in .dot needs nothing"
        )
    done = subprocess.run(
        [dot, f"-T{output.suffix[1:]}", "-o", str(output)], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise GraphvizError(f"dot could not write {output}: {done.stderr.strip()}")
