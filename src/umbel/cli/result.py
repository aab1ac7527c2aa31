"""``umbel result``: what is known of a task."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from umbel.cli.outcomes import FAILED, SUCCEEDED, TIMED_OUT, write_description, write_document

if TYPE_CHECKING:
    from umbel.cli import Context


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until the task has ended.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait at most so long; implies --wait."
)
@click.option("-t", "--task", metavar="NAME", help="Name of the task, where it has a class of results of its own.")
@click.option("--traceback", "only_traceback", is_flag=True, help="Write the traceback only.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_obj
def result(
    context: Context,
    task_id: str,
    wait: bool,
    timeout: float | None,
    task: str | None,
    only_traceback: bool,
    as_json: bool,
) -> None:
    """Show the state, result, traceback and children of the task ID; of one that has not ended, where it is.

    ready or delayed: it waits in its queue; held: a worker has it; parked: no worker that saw it knows it; dead: see
    "umbel dlq"; begun: it runs, acknowledged already; unknown: never sent, purged, or its result is gone.

    Exit status: 0 succeeded, or not ended yet; 1 failed; 2 wrong usage; 124 not ended in time.

    \b
    Examples:
      umbel -A proj result 5f0c1c34-8f3a-4a3b-9a39-0d1f0d1c6f53
      umbel -A proj result 5f0c1c34-8f3a-4a3b-9a39-0d1f0d1c6f53 --timeout 10 --json
    """
    from umbel.errors import NoBackend, TimeoutError

    app = context.app
    if app.backend.features.knows_nothing:
        raise NoBackend("there is no result backend: set result_backend, or give --result-backend")
    if task is not None:
        app.import_task_modules()
    found = app.AsyncResult(task_id) if task is None else app.tasks[task].AsyncResult(task_id)
    if wait or timeout is not None:
        try:
            found.get(timeout=timeout, propagate=False)
        except TimeoutError:
            click.echo(f"umbel: task {task_id} has not ended within {timeout:g} s", err=True)
            sys.exit(TIMED_OUT)
    if only_traceback:
        click.echo(found.traceback or "", nl=not (found.traceback or "").endswith("\n"))
        sys.exit(FAILED if found.state in ("FAILURE", "REVOKED") else SUCCEEDED)
    where = None
    if app.broker.features.locates and not found.ready():
        where = found.whereabouts()
    sys.exit(write_document(found, where) if as_json else write_description(found, where))
