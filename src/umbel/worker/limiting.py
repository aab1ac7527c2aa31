"""The step that keeps concurrency limits and unique tasks: their gates, and the thread that renews holds."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from umbel.bootsteps import StartStopStep
from umbel.errors import UmbelError
from umbel.limits.holds import HoldGate, concurrency_limits
from umbel.limits.holds_opening import open_holds
from umbel.limits.unique import unique_rules
from umbel.limits.unique_gate import UniqueGate

if TYPE_CHECKING:
    from umbel.limits.holds_store import HoldStore
    from umbel.worker.supervisor import Worker

logger = logging.getLogger("umbel.worker.limits")

_TIDYING = 60.0
"""Seconds between two removals of what has run out."""


class SharedLimits(StartStopStep):
    """Gates for the tasks that are limited or unique, where there are any.

    Holds are renewed in a thread from before the first task is claimed until the last one was settled: in a warm
    shutdown as well, and while there is no link to the broker. They live as long as the lease without it.
    """

    blueprint = "worker"
    conditional = True

    def __init__(self, worker: Worker, **options: Any) -> None:
        super().__init__(worker, **options)
        self._limits = concurrency_limits(worker.app)
        self._rules = unique_rules(worker.app)
        self.enabled = bool(self._limits or self._rules)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def create(self, worker: Worker) -> None:
        app, flow = worker.app, worker.flow
        concerned = next(iter(self._limits or self._rules))
        option = "max_concurrency" if self._limits else "unique"
        self._store = store = open_holds(app, f"{option} of task {concerned}")
        refuse = flow.intake.refused
        self._holds = HoldGate(self._limits, store, lambda: worker.concurrency, refuse, app.conf.worker_lease)
        if self._limits:
            flow.gates.add(self._holds)
        if self._rules:
            unique = UniqueGate(app, self._rules, store, refuse, flow.intake.duplicate)
            flow.gates.add(unique)
            flow.gates.when_over(unique.over)

    async def start(self, worker: Worker) -> None:
        period = worker.app.conf.worker_lease_renewal
        self._thread = threading.Thread(target=self._keep, args=(self._store, period), name="umbel-holds", daemon=True)
        self._thread.start()

    def _keep(self, store: HoldStore, period: float) -> None:
        tidied = time.monotonic()
        while not self._ended.wait(period):
            try:
                self._holds.renew()
                if time.monotonic() - tidied > _TIDYING:
                    store.tidy()
                    tidied = time.monotonic()
            except UmbelError as error:
                logger.warning("places under concurrency limits could not be renewed: %s", error)
            except Exception:
                logger.exception("places under concurrency limits could not be renewed")

    async def shutdown(self, worker: Worker) -> None:
        self._ended.set()
