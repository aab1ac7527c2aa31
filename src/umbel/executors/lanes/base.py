"""The seam between an executor process and its lanes: how several tasks are run at a time in one process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from msgspec import Struct

from umbel.executors.executor import Executor

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.board import Board
    from umbel.executors.channel import ExecutorEnd
    from umbel.guarding import Guard


class Station(Struct, eq=False, frozen=True):
    """What an executor process gives to its lanes.

    ``end``: its side of the channel, on which each task is one packet. It is for one reader at a time; several threads
    share it by a ``SharedEnd``. ``count`` lanes have the slots of the board from ``first`` on. ``hostname``: the
    worker's node name. ``bell``: descriptor on which kinds that are ``interruptible`` hear which task is to end.
    """

    app: Umbel
    end: ExecutorEnd
    board: Board
    first: int
    count: int
    hostname: str
    bell: int = -1

    def lane(self, index: int, end: ExecutorEnd, guard: Guard | None = None) -> Executor:
        """Lane ``index`` (from 0), whose ``run()`` takes one packet after the other from ``end`` until none comes.

        ``guard``: how its tasks are interrupted; by default by a signal in the main thread, by exceptions in others.
        """
        return Executor(self.app, end, self.board, self.first + index, self.hostname, guard)


class Lanes(ABC):
    """One kind of lanes. Derive from it, and name the class by an entry point of the group ``umbel.pools``.

    A lane takes the next packet only when it is free: what is not taken can go to another executor. An exception that
    leaves ``run`` ends the process, whose running tasks then count as crashed.
    """

    name: ClassVar[str]
    library: ClassVar[str] = ""
    """Module without which this kind cannot be used; the extra that installs it has the same name."""

    default_count: ClassVar[int | None] = None
    """Lanes of each process where no concurrency is configured; None: as many as the machine has processors."""

    single: ClassVar[bool] = False
    """Each process has one lane, and the concurrency is the number of processes."""

    in_supervisor: ClassVar[bool] = False
    """The lane is a thread of the supervisor; there are no executor processes."""

    patch: ClassVar[str] = ""
    """Python statements that executors run before anything else, the application included, is imported."""

    needs_packets: ClassVar[bool] = False
    """It waits for the channel by itself, which takes packet sockets (Linux)."""

    interruptible: ClassVar[bool] = False
    """It listens to ``station.bell`` and ends single tasks. Where it does not, the process is killed to end one."""

    def __init__(self, station: Station) -> None:
        self.station = station

    @abstractmethod
    def run(self) -> None:
        """Run tasks; return when the supervisor has said STOP, or has gone, and all that was taken has ended."""
