"""The tasks of ``apps.lanes`` in a worker whose autoscaler is what ``AUTOSCALER`` names."""

from __future__ import annotations

import os
from pathlib import Path

from apps.lanes import app
from umbel import Autoscaler
from umbel.autoscaling import Stats


def _told() -> int:
    return int(Path(os.environ["SIZE_FILE"]).read_text())


class FromFile(Autoscaler):
    """As many as a file says."""

    period = 0.1

    def desired(self, stats: Stats) -> int:
        return _told()


class FromFileLater(FromFile):
    async def desired(self, stats: Stats) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _told()


class Measuring(Autoscaler):
    """Says what it sees, and stays as it is."""

    period = 0.1
    measures = frozenset({"queues", "memory"})

    def desired(self, stats: Stats) -> int:
        Path(os.environ["SIZE_FILE"]).write_text(repr(stats))
        return stats.size


app.conf.worker_autoscaler = f"apps.scaled:{os.environ.get('AUTOSCALER', 'FromFile')}"
