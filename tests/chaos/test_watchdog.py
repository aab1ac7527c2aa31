"""Pain 2: the worker lives but consumes nothing after a reconnect. It must go on by itself, or end."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from chaos.conftest import SERVERS, Place
from chaos.scene import LEASE, SHORT_LEASE, await_moment
from proxy import TCPProxy
from workers import wait_for

WATCHFUL = {"UMBEL_WORKER_STALL_TIMEOUT": "1"}
_EXIT_STALLED = 75


@pytest.mark.parametrize("system", SERVERS, indirect=True)
def test_work_goes_on_after_a_network_that_swallowed_everything(
    place: Place, proxies: Callable[[str], TCPProxy]
) -> None:
    """No packet comes, no connection ends: nobody tells the worker that anything is wrong."""
    if place.system == "rabbitmq":
        place.broker += "?heartbeat=2"
    proxy = proxies(place.broker)
    with place.scene(SHORT_LEASE | WATCHFUL, worker_proxy=proxy) as scene:
        worker = scene.start()
        scene.load.send_bulk(100)
        scene.await_ended(20)
        pids = worker.executor_pids()
        moment = time.time()
        proxy.blackhole()
        scene.load.send_bulk(50)
        await_moment(LEASE + 2.0)
        held = set(scene.load.accepted) - {e.id for e in scene.ledger.entries() if e.event == "end" and e.at < moment}
        proxy.heal()
        healed = time.time()
        scene.await_all()
        print(f"all done {time.time() - healed:.1f} s after the network was back")
        assert time.time() - healed < 10
        assert worker.process.poll() is None
        assert worker.executor_pids() == pids
        scene.assert_only_doubled(held | scene.ledger.in_doubt(pids, moment, unreported=1.0))


@pytest.mark.parametrize("system", ["redis"], indirect=True)
def test_a_link_that_hears_nothing_is_replaced(place: Place) -> None:
    with place.scene(WATCHFUL | {"DEAF_LINKS": "1"}) as scene:
        worker = scene.start(app="apps.deaf")
        scene.load.send_bulk(20)
        scene.await_all()
        assert "work waits, but nothing was claimed" in worker.output()
        assert "Thread 0x" in worker.output(), "the stacks are in the log"
        scene.assert_only_doubled()


@pytest.mark.parametrize("system", ["redis"], indirect=True)
def test_a_worker_that_a_new_link_does_not_help_exits(place: Place) -> None:
    with place.scene(WATCHFUL | {"DEAF_LINKS": "99"}) as scene:
        worker = scene.start(app="apps.deaf")
        scene.load.send_bulk(20)
        wait_for(lambda: worker.process.poll() is not None, 15, "it exits")
        assert worker.process.poll() == _EXIT_STALLED
        assert scene.broker.size("celery").ready == 20
