"""The main loop of a lane: read a packet, run the task, send the outcome.

One process runs one of them, or several in threads or greenlets (``lanes``); coroutines have a loop of their own.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from umbel.execution import execute_message
from umbel.executors import packets
from umbel.executors.interrupts import guard_of_this_thread
from umbel.guarding import TaskEnded

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.backends.base import Result
    from umbel.execution import Outcome
    from umbel.executors.board import Board
    from umbel.executors.channel import ExecutorEnd
    from umbel.guarding import Guard

LEASE_POLL = 0.05
"""Seconds between looks at a lease that is in doubt."""


class Executor:
    """Runs one task at a time in this thread until it is told to stop or its supervisor has gone.

    ``guard``: how its tasks are interrupted; by default as the thread in which it runs allows.
    """

    def __init__(
        self, app: Umbel, end: ExecutorEnd, board: Board, slot: int, hostname: str, guard: Guard | None = None
    ) -> None:
        self.app = app
        self.end = end
        self.board = board
        self.slot = slot
        self.hostname = hostname
        self.guard = guard
        self._number = 0

    def run(self) -> None:
        end, board, slot, forks = self.end, self.board, self.slot, forks_behind()
        own = self.guard = self.guard or guard_of_this_thread()
        always = own.always
        while True:
            packet = end.receive()
            if packet is None:
                return
            number, kind = packets.head_of(packet)
            if kind != packets.TASK:
                return
            self._number = number
            if not board.lease_is_good() and not self._await_lease():
                end.send(packets.encode_refused(number))
                continue
            assignment = packets.decode_task(packet)
            guard = own if always or assignment.soft is not None else None
            if guard is not None:
                guard.begin(number, assignment.soft)
            board.begin(slot, number)
            message = assignment.message
            try:
                outcome = execute_message(
                    self.app,
                    message,
                    hostname=self.hostname,
                    redelivered=message.redelivered or assignment.deliveries > 0,
                    deliveries=assignment.deliveries,
                    report=self._report,
                    guard=guard,
                )
            except TaskEnded:
                outcome = None
            if forks_behind() != forks:
                os._exit(0)  # a child that the task forked came back from it: it is no executor
            if guard is not None:
                guard.finish()
            report = report_of(number, outcome)
            board.end(slot)
            end.send(report)

    def _report(self, result: Result) -> None:
        self.end.send(packets.encode_state(self._number, result))

    def _await_lease(self) -> bool:
        """Wait while the lease is in doubt; whether it is still the one under which the packet in hand was sent.

        If it is not, the message may run elsewhere by now. The supervisor takes back what is unread by itself.
        """
        number = self.board.lease_number
        while not self.board.lease_is_good():
            time.sleep(LEASE_POLL)
        return self.board.lease_number == number


def report_of(number: int, outcome: Outcome | None) -> bytes:
    """The packet by which the supervisor is told how task ``number`` ended; None: by force, as it has asked."""
    if outcome is None:
        return packets.encode_ended(number)
    if outcome.state == "SUCCESS" and not (outcome.publish or outcome.parts or outcome.closes):
        return packets.encode_success(number, outcome.runtime, outcome.result)
    return packets.encode_report(number, packed(outcome))


def packed(outcome: Outcome) -> packets.Report:
    """What the supervisor is told of an outcome."""
    return packets.Report(
        outcome.state,
        outcome.runtime,
        outcome.result,
        outcome.publish,
        outcome.action._value_,
        outcome.delay,
        _encodable(outcome.reason),
        _encodable(outcome.error_repr),
        _encodable(outcome.traceback) if outcome.traceback and outcome.state == "FAILURE" else None,
        outcome.parts,
        outcome.closes,
    )


_forks = 0


def forks_behind() -> int:
    """How many forks of Python lie between this process and the first one: changes in a child only. To ask it is
    cheaper than to ask the system for the number of the process."""
    return _forks


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


def _encodable(text: str) -> str:
    """Text of users' errors may hold lone surrogates, which no encoding takes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
