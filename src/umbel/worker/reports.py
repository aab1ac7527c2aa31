"""What executors report, packet by packet: states and outcomes of tasks, what they will not run, that they retire.

Everything here is called with the lock of the work held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from umbel.brokers.base import Action, Settlement
from umbel.executors import packets
from umbel.worker.held_work import ALL

if TYPE_CHECKING:
    from umbel.executors.packets import Report
    from umbel.worker.held_work import HeldWork
    from umbel.worker.job import Job
    from umbel.worker.pool import ExecutorHandle

_PACKETS_AT_ONCE = 256


class Reports:
    """Reads the channels of executors. ``on_retired``: called when one says that it reads no more; ``on_sending``, when
    a task has ended whose settlement sends messages, with that and the number of lanes that its executor has free."""

    def __init__(
        self, work: HeldWork, on_retired: Callable[[], None], on_sending: Callable[[Settlement, int], None]
    ) -> None:
        self.work = work
        self._dispatcher = work.dispatcher
        self._sentences = work.sentences
        self._tell_retired = on_retired
        self._on_sending = on_sending

    def read(self, executor: ExecutorHandle, limit: int = _PACKETS_AT_ONCE) -> None:
        """Take in what it has sent, at most so many packets. To find that there are no more takes as long as to read
        one, so where one is likely to be all, it is."""
        if len(executor.jobs) == 1 and limit != ALL:
            limit = 1
        for packet in executor.channel.receive(limit):
            self._on_packet(executor, packet)

    def read_all(self) -> None:
        """Take in what all have sent."""
        for executor in self.work.executors():
            self.read(executor, ALL)

    def _on_packet(self, executor: ExecutorHandle, packet: bytes) -> None:
        work = self.work
        kind, number = packets.kind_of(packet), packets.number_of(packet)
        if kind == packets.OUTCOME:
            try:
                report, fault = packets.decode_report(packet), ""
            except msgspec.MsgspecError as error:
                report, fault = None, f"the outcome of the task cannot be read: {error}"
            job = self._dispatcher.finish(executor, number, report.runtime if report is not None else None)
            if job is not None:
                if self._sentences:
                    self._sentences.pop(number, None)
                settlement = work.conclude(job, report or self._unreadable(job, fault))
                if settlement is not None and settlement.publish and not executor.stopping:
                    self._on_sending(settlement, executor.open - len(executor.jobs))
        elif kind == packets.BUNDLE:
            for each in packets.decode_bundle(packet):
                self._on_packet(executor, each)
        elif kind == packets.REPORT:
            work.ending.results.append(packets.decode_state(packet))
        elif kind in (packets.REFUSED, packets.ENDED):
            job = self._dispatcher.finish(executor, number, None)
            if job is None:
                return
            if number in self._sentences:
                work.end_by_force(job)
            else:
                work.orphans.end(job)
                work.requeue(job)
        elif kind == packets.RETIRING:
            executor.stopping, executor.retired = True, packets.decode_retiring(packet)
            self._dispatcher.put_back(self._dispatcher.take_back(executor, ALL))
            self._tell_retired()

    def _unreadable(self, job: Job, fault: str) -> Report:
        """An outcome of wrong types, from a callback with a priority in letters for example, is a failure."""
        lost = self.work.intake.unreadable(job.delivery, fault)
        self.work.ending.results += lost.fallout
        return packets.Report(
            "FAILURE",
            0.0,
            lost.result,
            lost.publish,
            action=Action.DEAD_LETTER.value,
            reason=fault,
            error=fault,
            parts=lost.parts,
        )
