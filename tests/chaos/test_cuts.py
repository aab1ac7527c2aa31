"""Connections cut in the middle of publishing and of settling, many times, anywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaos.conftest import SERVERS, Place
from chaos.cutting import Shears
from proxy import TCPProxy

Proxies = Callable[[str], TCPProxy]


@pytest.mark.parametrize("system", SERVERS, indirect=True)
def test_cut_while_publishing(place: Place, proxies: Proxies) -> None:
    """What ``delay()`` accepted runs; once, where the driver can tell that a repeated message was there already."""
    proxy = proxies(place.broker)
    with place.scene(client_proxy=proxy) as scene:
        scene.start()
        shears = Shears(proxy, scene.dice, most=4000)
        with shears.cutting():
            while len(shears.moments) < 40:
                scene.load.send(scene.tasks.record, 0.0)
            scene.load.send_bulk(50)
        print(f"{len(shears.moments)} cuts, {len(scene.load.accepted)} accepted")
        scene.await_all()
        may_double = scene.load.accepted + list(scene.load.refused) if place.system == "rabbitmq" else ()
        scene.assert_only_doubled(may_double)
        assert not scene.load.refused, "every call had time to try again"


@pytest.mark.parametrize("system", SERVERS, indirect=True)
def test_cut_while_settling(place: Place, proxies: Proxies) -> None:
    """A worker whose connections break all the time keeps its lease, and so what it holds."""
    proxy = proxies(place.broker)
    cuts = 6 if place.system == "rabbitmq" else 25
    with place.scene({"UMBEL_WORKER_LEASE_RENEWAL": "0.4"}, worker_proxy=proxy) as scene:
        worker = scene.start()
        scene.load.send_bulk(100)
        shears = Shears(proxy, scene.dice, most=20_000)
        with shears.cutting(pause=0.02), scene.load.trickle():
            while len(shears.moments) < cuts:
                scene.await_ended(2)
        print(f"{len(shears.moments)} cuts")
        scene.await_all()
        assert worker.process.poll() is None
        allowed: set[str] = set()
        if place.system == "rabbitmq":
            for moment in shears.moments:
                allowed |= scene.ledger.in_doubt(worker.executor_pids(), moment, unreported=1.0)
        scene.assert_only_doubled(allowed)
