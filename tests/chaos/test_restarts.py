"""Servers that go away under load and come back: nothing is lost, and work goes on soon."""

from __future__ import annotations

import time

import pytest

from chaos.conftest import SERVERS, Place
from chaos.scene import LEASE, SHORT_LEASE, await_moment
from services import PrivateServer

BACK_WITHIN = 5.0


@pytest.mark.parametrize("system", SERVERS, indirect=True)
def test_a_server_restarted_under_load(own_server: tuple[PrivateServer, Place]) -> None:
    """Once in good order, once by SIGKILL. Pain 2: the worker lives but consumes nothing after a reconnect."""
    server, place = own_server
    with place.scene(SHORT_LEASE) as scene:
        worker = scene.start()
        scene.load.send_bulk(150)
        allowed: set[str] = set()
        with scene.load.trickle():
            for end in (server.stop, server.kill):
                scene.await_ended(30)
                scene.load.send_bulk(80)
                moment = time.time()
                end()
                await_moment(0.3)
                server.start()
                back = time.time()
                scene.await_begun_after(back, BACK_WITHIN)
                print(f"{end.__name__}: down for {back - moment:.1f} s")
                allowed |= scene.ledger.in_doubt(worker.executor_pids(), moment, unreported=1.0)
        scene.await_all()
        assert worker.process.poll() is None
        scene.assert_only_doubled(allowed)


@pytest.mark.parametrize("system", ["redis", "postgresql"], indirect=True)
def test_a_server_that_was_away_for_longer_than_the_lease(own_server: tuple[PrivateServer, Place]) -> None:
    """Nobody could renew: the worker that lives on must not be robbed of what it runs."""
    server, place = own_server
    with place.scene(SHORT_LEASE) as scene:
        scene.start()
        scene.start()
        scene.load.send_bulk(150)
        scene.await_ended(30)
        server.kill()
        moment = time.time()
        await_moment(LEASE + 0.5)
        server.start()
        scene.await_all()
        pids = {entry.pid for entry in scene.ledger.entries()}
        scene.assert_only_doubled(scene.ledger.in_doubt(pids, moment, unreported=1.0))


@pytest.mark.parametrize("system", ["redis", "postgresql"], indirect=True)
def test_a_worker_whose_server_is_gone_stops_when_its_tasks_have_ended(
    own_server: tuple[PrivateServer, Place],
) -> None:
    """Pain 22. What cannot be settled is delivered again once the server is back; nobody has to ask twice."""
    server, place = own_server
    with place.scene(SHORT_LEASE) as scene:
        worker = scene.start()
        scene.load.send_bulk(150)
        scene.await_ended(30)
        server.kill()
        await_moment(1.0)
        assert worker.stop(timeout=30) == 0
        server.start()
        scene.start()
        scene.await_all()
