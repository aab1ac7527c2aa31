"""How commands show the result of a task, and the exit status that it gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from umbel.backends.base import EXCEPTION_STATES
from umbel.cli.output import write_json, write_pairs

if TYPE_CHECKING:
    from umbel.result import AsyncResult

SUCCEEDED, FAILED, TIMED_OUT = 0, 1, 124
"""Exit statuses; 2 is a usage error, as everywhere."""

_FAILURES = frozenset({"FAILURE", "REVOKED"})


def as_document(result: AsyncResult[Any], where: str | None = None) -> dict[str, Any]:
    """The result as JSON shows it; an exception is its type and text. ``where``: what ``whereabouts`` said."""
    state, value = result.state, result.result
    if isinstance(value, BaseException):
        value = {"error": type(value).__name__, "message": str(value)}
    done = result.date_done
    return {
        "id": result.id,
        "state": state,
        **({"where": where} if where else {}),
        "result": value,
        "traceback": result.traceback,
        "children": [str(child) if hasattr(child, "as_list") else child.id for child in result.children or []],
        "done": done.isoformat() if done else None,
    }


def write_value(result: AsyncResult[Any]) -> int:
    """Write what a task that has ended returned, or its error to standard error; the exit status."""
    value = result.result
    if result.state in _FAILURES:
        click.echo(f"umbel: task {result.id} ended as {result.state}: {type(value).__name__}: {value}", err=True)
        return FAILED
    click.echo(value if isinstance(value, str) else shown(value))
    return SUCCEEDED


def write_document(result: AsyncResult[Any], where: str | None = None) -> int:
    """Write the result as JSON; the exit status."""
    document = as_document(result, where)
    write_json(document)
    return FAILED if document["state"] in _FAILURES else SUCCEEDED


def write_description(result: AsyncResult[Any], where: str | None = None) -> int:
    """Write all that is known of the result, a line each; the exit status."""
    state, value = result.state, result.result
    pairs: list[tuple[str, Any]] = [("id", result.id), ("state", state)]
    if where:
        pairs.append(("where", where))
    if state in EXCEPTION_STATES and isinstance(value, BaseException):
        pairs.append(("error", f"{type(value).__name__}: {value}"))
    elif state != "PENDING":
        pairs.append(("result", value if isinstance(value, str) else shown(value)))
    done = result.date_done
    if done:
        pairs.append(("done", done.isoformat(sep=" ", timespec="milliseconds")))
    extended = {name: getattr(result, name) for name in ("name", "args", "kwargs", "worker", "retries", "queue")}
    pairs += [(name, held if isinstance(held, str) else shown(held)) for name, held in extended.items() if held]
    if result.children:
        pairs.append(("children", "\n".join(child.id for child in result.children)))
    if result.traceback:
        pairs.append(("traceback", result.traceback.rstrip()))
    write_pairs(pairs)
    if state == "PENDING" and not where:
        click.echo("umbel: nothing is known of this task: it waits, or runs, or was never sent", err=True)
    return FAILED if state in _FAILURES else SUCCEEDED


def shown(value: Any) -> str:
    """A value as JSON on one line, or its ``repr`` where JSON cannot express it."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):
        return repr(value)
