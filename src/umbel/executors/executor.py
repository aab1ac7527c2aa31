"""The main loop of a prefork executor: read a packet, run the task, send the outcome."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from umbel.errors import UmbelError
from umbel.execution import execute_message
from umbel.executors import packets
from umbel.executors.channel import ExecutorEnd, open_executor_end
from umbel.executors.recycling import recycling_of
from umbel.log.setup import enter_executor
from umbel.worker.stacks import dump_on_signal

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.backends.base import Result
    from umbel.execution import Outcome
    from umbel.executors.board import Board

_LEASE_POLL = 0.05

logger = logging.getLogger("umbel.executor")


class Executor:
    """Runs one task at a time in this process until it is told to stop, its supervisor has gone, or it has done
    enough (``recycling``)."""

    def __init__(self, app: Umbel, end: ExecutorEnd, board: Board, slot: int, hostname: str) -> None:
        self.app = app
        self.end = end
        self.board = board
        self.slot = slot
        self.hostname = hostname
        self._number = 0

    def run(self) -> None:
        end, board, slot, pid = self.end, self.board, self.slot, os.getpid()
        recycling, enough = recycling_of(self.app), ""
        while not (recycling and (enough := recycling.due())):
            packet = end.receive()
            if packet is None or packets.kind_of(packet) != packets.TASK:
                return
            number = self._number = packets.number_of(packet)
            if not board.lease_is_good() and not self._await_lease():
                end.send(packets.encode_refused(number))
                continue
            assignment = packets.decode_task(packet)
            board.begin(slot, number)
            outcome = execute_message(
                self.app,
                assignment.message,
                hostname=self.hostname,
                redelivered=assignment.message.redelivered or assignment.deliveries > 0,
                deliveries=assignment.deliveries,
                report=self._report,
            )
            if os.getpid() != pid:
                os._exit(0)  # a child that the task forked came back from it: it is no executor
            board.end(slot)
            end.send(packets.encode_report(number, _packed(outcome)))
        end.send(packets.encode_retiring(enough))

    def _report(self, result: Result) -> None:
        self.end.send(packets.encode_state(self._number, result))

    def _await_lease(self) -> bool:
        """Wait while the lease is in doubt; whether it is still the one under which the packet in hand was sent.

        If it is not, the message may run elsewhere by now. The supervisor takes back what is unread by itself.
        """
        number = self.board.lease_number
        while not self.board.lease_is_good():
            time.sleep(_LEASE_POLL)
        return self.board.lease_number == number


def _packed(outcome: Outcome) -> packets.Report:
    return packets.Report(
        outcome.state,
        outcome.runtime,
        outcome.result,
        outcome.publish,
        outcome.action.value,
        outcome.delay,
        _encodable(outcome.reason),
        _encodable(outcome.error_repr),
        _encodable(outcome.traceback) if outcome.traceback and outcome.state == "FAILURE" else None,
    )


def _encodable(text: str) -> str:
    """Text of users' errors may hold lone surrogates, which no encoding takes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def run_executor(app: Umbel, fd: int, board: Board, slot: int, hostname: str) -> None:
    """Body of a freshly forked executor process. Returns when it is to exit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if enter_executor(slot):
        dump_on_signal()
    app.after_fork()
    try:
        Executor(app, open_executor_end(fd), board, slot, hostname).run()
    finally:
        try:
            app.close()
        except UmbelError:
            logger.warning("closing the connections of an executor failed", exc_info=True)
