"""The worker's log: one line for each life-cycle event of a task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from umbel.brokers.base import Action, Settlement
from umbel.worker.intake import REVOKED

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.packets import Report
    from umbel.message import Message

logger = logging.getLogger("umbel.task")

_LEVELS = {
    "SUCCESS": logging.INFO,
    "RETRY": logging.INFO,
    "IGNORED": logging.INFO,
    "REJECTED": logging.WARNING,
    "REVOKED": logging.WARNING,
}
_WORDS = {"SUCCESS": "succeeded", "FAILURE": "failed", "RETRY": "is to be retried", "IGNORED": "ignored"}


class Journal:
    """Writes events of tasks with their data as ``extra``, for text and JSON alike (see ``umbel.log``)."""

    def __init__(self, app: Umbel) -> None:
        self.app = app

    def ended(self, message: Message, report: Report) -> None:
        level = _LEVELS.get(report.state, logging.ERROR)
        if not logger.isEnabledFor(level):
            return
        data = _identity(message) | {"runtime": round(report.runtime, 6)}
        if report.error:
            data["error"] = report.error
        if report.reason:
            data["reason"] = report.reason
        text = f"\n{report.traceback}" if report.traceback and report.state == "FAILURE" else ""
        logger.log(level, "task %s%s", _WORDS.get(report.state, report.state.lower()), text, extra={"data": data})

    def not_run(self, settlement: Settlement) -> None:
        """A delivery ended before any executor saw it."""
        message = settlement.delivery.message
        data = _identity(message) | {"queue": settlement.delivery.queue}
        if settlement.action is Action.DEAD_LETTER:
            logger.error("message dead-lettered", extra={"data": data | {"reason": settlement.reason}})
        elif settlement.action is Action.PARK:
            logger.warning("task is not known here, message parked", extra={"data": data})
        elif settlement.action is Action.REQUEUE:
            logger.debug("task delayed", extra={"data": data | {"delay": round(settlement.delay, 3)}})
        elif settlement.reason == REVOKED:
            logger.warning("task revoked", extra={"data": data})
        elif settlement.reason:
            logger.warning("task not run", extra={"data": data | {"reason": settlement.reason}})
        else:
            logger.warning("task expired", extra={"data": data})

    def lost_hold(self, message: Message) -> None:
        """A task ended here after its message was given to somebody else."""
        logger.warning(
            "the hold on the message was lost before it could be settled", extra={"data": _identity(message)}
        )

    def lost(self, message: Message, reason: str, consequence: str) -> None:
        """The process that ran a task died."""
        data = _identity(message) | {"reason": reason, "consequence": consequence}
        logger.error("task lost its process", extra={"data": data})


def _identity(message: Message) -> dict[str, Any]:
    return {"task": message.task, "id": message.id}
