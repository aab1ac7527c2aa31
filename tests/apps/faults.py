"""The canvases of ``apps.canvases`` on a worker that dies at a chosen step on the way from a member's end to the body,
or from one link of a chain to the next.

``FAULT_POINT`` names the step. The worker, all of its processes, is killed there once the file ``FAULT_FILE`` exists,
which is removed before, so that it happens once.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from apps.canvases import app as app
from umbel.brokers.base import Settlement

SUPERVISOR = os.getpid()
FINISH = "umbel.chord"


def die() -> None:
    """Kill the supervisor; with it go its nursery and executors."""
    try:
        os.unlink(os.environ["FAULT_FILE"])
    except FileNotFoundError:
        return
    os.kill(SUPERVISOR, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def break_at(owner: Any, name: str, *, after: bool, when: Callable[..., bool] = lambda *_: True) -> None:
    """Die before or after a call of this method; ``when`` is asked with its arguments."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        concerned = when(*args)
        if concerned and not after:
            die()
        value = real(self, *args, **kwargs)
        if concerned and after:
            die()
        return value

    setattr(owner, name, call)


def break_consumer(name: str, *, after: bool, when: Callable[..., bool]) -> None:
    """The same for a method of the broker's consumer, whose class shows when the worker opens one."""
    broker = type(app.broker)
    opened = broker.consumer
    done: list[type] = []

    @functools.wraps(opened)
    def consumer(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = opened(self, *args, **kwargs)
        if type(made) not in done:
            done.append(type(made))
            break_at(type(made), name, after=after, when=when)
        return made

    broker.consumer = consumer  # type: ignore[method-assign]


def ends_member(settlements: Sequence[Settlement], *_: Any) -> bool:
    return any(each.parts or any(message.task == FINISH for message in each.publish) for each in settlements)


def ends_chord(settlements: Sequence[Settlement], *_: Any) -> bool:
    return any(each.closes for each in settlements)


def keeps(settlements: Sequence[Settlement], *_: Any) -> bool:
    return any(each.keep for each in settlements)


STEPS: dict[str, Callable[[], None]] = {
    "part unnoted": lambda: break_at(type(app.backend), "store_parts", after=False),
    "part noted": lambda: break_at(type(app.backend), "store_parts", after=True),
    "result stored": lambda: break_at(type(app.backend), "store", after=True),
    "member unsettled": lambda: break_consumer("settle", after=False, when=ends_member),
    "finish sent": lambda: break_consumer("_publish", after=True, when=ends_member),
    "member settled": lambda: break_consumer("settle", after=True, when=ends_member),
    "chord unclaimed": lambda: break_at(type(app.backend), "claim_chord", after=False),
    "chord claimed": lambda: break_at(type(app.backend), "claim_chord", after=True),
    "parts read": lambda: break_at(type(app.backend), "chord_parts", after=True),
    "body unpublished": lambda: break_consumer("settle", after=False, when=ends_chord),
    "body sent": lambda: break_consumer("_publish", after=True, when=ends_chord),
    "body published": lambda: break_consumer("settle", after=True, when=ends_chord),
    "chord closed": lambda: break_at(type(app.backend), "close_chords", after=True),
    "link unsettled": lambda: break_consumer("settle", after=False, when=keeps),
    "link settled": lambda: break_consumer("settle", after=True, when=keeps),
}
"""In the order of the ways. ``_publish`` is RabbitMQ's: what a settlement sends, before it is acknowledged."""

if "FAULT_POINT" in os.environ:
    STEPS[os.environ["FAULT_POINT"]]()
