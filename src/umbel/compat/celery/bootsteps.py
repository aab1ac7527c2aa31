"""``celery.bootsteps``: parts of workers. ``ConsumerStep`` gets Umbel's broker instead of kombu's channel."""

from typing import Any

from umbel.bootsteps import Blueprint, ConsumerStep, StartStopStep, State, Step
from umbel.compat.missing import refuse

RUN, CLOSE, TERMINATE = State.RUNNING, State.CLOSING, State.TERMINATING

__all__ = ["CLOSE", "RUN", "TERMINATE", "Blueprint", "ConsumerStep", "StartStopStep", "Step"]


def __getattr__(name: str) -> Any:
    return refuse("celery.bootsteps", name)
