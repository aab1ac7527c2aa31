"""The worker's consuming side: its link to the broker, and the steps that live as long as one link does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from umbel.bootsteps import Blueprint, StartStopStep
from umbel.errors import OperationalError, StepError, UmbelError
from umbel.routing import own_side
from umbel.worker.autoscale import Autoscaling
from umbel.worker.link import Link
from umbel.worker.maintenance import Parking, Watchdog
from umbel.worker.remote import RemoteControl
from umbel.worker.revocations import Revoking
from umbel.worker.stopping import EXIT_FAILURE

if TYPE_CHECKING:
    from umbel.worker.pool import Pool
    from umbel.worker.supervisor import Worker
    from umbel.worker.timer import Timer

logger = logging.getLogger("umbel.worker")

_RESTART_SOON = 30.0
_LONGEST_RESTART_PAUSE = 5.0
_OLD_LINK_TIMEOUT = 2.0


class Connection(StartStopStep):
    """A link to the broker; its lease is kept from now on."""

    blueprint = "consumer"
    stop_timeout = None

    async def start(self, consumer: WorkerConsumer) -> None:
        await consumer.connect()

    async def shutdown(self, consumer: WorkerConsumer) -> None:
        if consumer.link is not None:
            await asyncio.to_thread(consumer.link.close)


class Tasks(StartStopStep):
    """Claims tasks and settles them, once all other steps have started."""

    blueprint = "consumer"
    requires = (Connection,)
    last = True

    async def start(self, consumer: WorkerConsumer) -> None:
        consumer.begin()


class WorkerConsumer:
    """Parent of the steps in ``app.steps["consumer"]``.

    ``app``; ``controller``: the worker; ``hostname``: its node name; ``link``: what it claims and settles through,
    None while there is no connection; ``blueprint`` and ``steps``.
    """

    def __init__(self, worker: Worker, options: Mapping[str, Any]) -> None:
        self.app = worker.app
        self.controller = worker
        self.hostname = worker.hostname
        self.link: Link | None = None
        self.steps: list[StartStopStep] = []
        self.blueprint = Blueprint(self.app.steps["consumer"], "consumer", default_steps=STEPS, hooks=worker.hooks)
        self._begun = False
        self._changing = asyncio.Lock()
        self._restarting: asyncio.Task[None] | None = None
        self._restarted_at = float("-inf")
        self._restart_pause = 0.0
        self.blueprint.apply(self, **options)

    @property
    def pool(self) -> Pool | None:
        """The executors, once they have been started."""
        return self.controller.pool

    @property
    def timer(self) -> Timer:
        """The worker's timer."""
        return self.controller.timer

    # -- life --

    async def start(self) -> None:
        """Start the steps. Raises StepError, and OperationalError when no link can be had."""
        if self.app.conf.database_create_tables_at_setup:
            await asyncio.to_thread(self._prepare_results)
        async with self._changing:
            await self._start()

    def _prepare_results(self) -> None:
        try:
            self.app.backend.prepare()
        except UmbelError as error:
            logger.warning("the result store is not ready: %s", error)

    async def _start(self) -> None:
        await self.blueprint.start(self)
        if not self.controller.stopping:
            queues = [queue.name for queue in self.controller.queues]
            logger.info("ready", extra={"data": {"node": self.hostname, "queues": queues}})

    async def close(self) -> None:
        """Claim nothing more; give back what has not begun."""
        if self._restarting is not None:
            await asyncio.wait({self._restarting})
        if self.link is not None:
            self.link.stop_claiming()
        self.controller.flow.stop()
        await self.blueprint.close(self)

    async def stop(self) -> None:
        """Stop the steps. The link stays, through which tasks that run are settled."""
        await self.blueprint.stop(self, terminate=self.controller.is_cold)

    async def shutdown(self) -> None:
        """The end of the link."""
        await self.blueprint.shutdown(self)

    # -- the link --

    async def connect(self) -> None:
        """Open a link, trying for as long as the settings allow. Raises OperationalError after that."""
        worker, conf = self.controller, self.app.conf
        queues = worker.queues
        if conf.mixed_fleet:
            queues = [*queues, *(own_side(conf, queue.name) for queue in queues if not queue.auto_delete)]
        attempts, delay = 0, 0.2
        while not worker.stopping:
            link = Link(
                self.app,
                queues,
                name=self.hostname,
                lease=conf.worker_lease,
                renewal=conf.worker_lease_renewal,
                board=worker.board,
                owner=worker.flow,
            )
            try:
                await asyncio.to_thread(link.open)
            except OperationalError as error:
                attempts += 1
                limit = conf.broker_connection_max_retries
                if not conf.broker_connection_retry_on_startup or (limit and attempts > limit):
                    raise
                logger.error("the broker cannot be reached, trying again in %.1f s: %s", delay, error)
                await worker.until(lambda: worker.stopping, delay)
                delay = min(delay * 2, 10.0)
                continue
            self.link, self._begun = link, False
            return

    def begin(self) -> None:
        """Claim and settle through the link."""
        if self.link is not None and not self._begun:
            self._begun = True
            self.controller.flow.attach(self.link)
            self.link.start()

    def request_restart(self, reason: str) -> None:
        """Have a new link made, unless one is being made or the worker stops. Any thread."""
        self.controller.call_soon(self._begin_restart, reason)

    def _begin_restart(self, reason: str) -> None:
        if self._restarting is None and not self.controller.stopping:
            self._restarting = asyncio.get_running_loop().create_task(self._restart(reason))

    async def _restart(self, reason: str) -> None:
        try:
            async with self._changing:
                await self._make_new_link(reason)
        except StepError as error:
            self.begin()  # so that what runs can be settled
            self.controller.fail(error)
        except Exception:
            logger.exception("no new link could be made")
            self.controller.give_up(EXIT_FAILURE)
        finally:
            self._restarting = None

    async def _make_new_link(self, reason: str) -> None:
        """Throw the link away with all it holds, and make a new one; with back-off when this happens again soon."""
        worker, now = self.controller, time.monotonic()
        soon = now - self._restarted_at < _RESTART_SOON
        self._restarted_at = now
        self._restart_pause = min(2 * self._restart_pause or 0.1, _LONGEST_RESTART_PAUSE) if soon else 0.0
        logger.error("a new link to the broker is made: %s", reason)
        old, self.link = self.link, None
        worker.flow.attach(None)
        await self.blueprint.stop(self)
        if old is not None:
            await asyncio.to_thread(old.close, _OLD_LINK_TIMEOUT)
        worker.board.begin_lease()
        worker.flow.on_lease_lost()
        await worker.until(lambda: worker.stopping, self._restart_pause)
        if not worker.stopping:
            await self._start()


STEPS = (Connection, Parking, Revoking, RemoteControl, Watchdog, Autoscaling, Tasks)
"""The steps of every consumer."""
