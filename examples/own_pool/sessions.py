"""A pool of one's own: threads that each keep a database session open for all their tasks.

In the ``pyproject.toml`` of the package that contains it:

    [project.entry-points."umbel.pools"]
    sessions = "own_pool.sessions:SessionLanes"

Then ``umbel -A proj worker --pool sessions -c 8``; without an entry point, ``--pool own_pool.sessions:SessionLanes``.
"""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

from umbel.executors.channel import SharedEnd
from umbel.executors.lanes.base import Lanes

local = threading.local()  # tasks find their session here: local.session


class SessionLanes(Lanes):
    name = "sessions"

    def run(self) -> None:
        end = SharedEnd(self.station.end)  # several threads take packets from one channel

        def lane(index: int) -> None:
            local.session = sqlite3.connect("sessions.db")
            with local.session:
                self.station.lane(index, end).run()  # one task after the other
            end.finish()  # told to stop: so are the other lanes

        with ThreadPoolExecutor(self.station.count) as threads:
            list(threads.map(lane, range(self.station.count)))  # list: an error ends the process
