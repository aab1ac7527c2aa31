"""Whether waiting for results is allowed here: tasks that wait for tasks can hold all workers for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from contextvars import ContextVar

from umbel.current import current_request
from umbel.errors import UmbelError

_join_allowed: ContextVar[bool | None] = ContextVar("umbel_join_allowed", default=None)


class WouldBlock(UmbelError, RuntimeError):
    """A task waits for another task, which may never get a worker because this one holds it."""


def assert_will_not_block() -> None:
    """Raise WouldBlock inside a task that a worker runs, unless ``allow_join_result`` permits waiting."""
    allowed = _join_allowed.get()
    if allowed:
        return
    request = current_request()
    if allowed is False or (request is not None and not request.called_directly and not request.is_eager):
        raise WouldBlock(
            "a task must not wait for the result of another one: both may wait for the same worker. "
            "Use a link or a chain, or allow_join_result() if you know better"
        )


@contextlib.contextmanager
def allow_join_result() -> Generator[None, None, None]:
    """Within, tasks may wait for results."""
    token = _join_allowed.set(True)
    try:
        yield
    finally:
        _join_allowed.reset(token)


@contextlib.contextmanager
def denied_join_result() -> Generator[None, None, None]:
    """Within, nobody may wait for results."""
    token = _join_allowed.set(False)
    try:
        yield
    finally:
        _join_allowed.reset(token)
