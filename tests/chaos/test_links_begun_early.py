"""A worker killed while a chain's next link has begun, and the settlement that sends it is not made yet, or just made.

Only brokers that publish and hold in one step begin a link that early.
"""

from __future__ import annotations

from collections import Counter

import pytest

from chaos.conftest import Place
from chaos.scene import MANY_CRASHES
from chaos.test_canvas_fault_points import LEASE, canvases_of, start
from umbel import chain
from workers import wait_for


@pytest.mark.parametrize("system", ["redis"], indirect=True)
@pytest.mark.parametrize(("step", "may_run_again"), [("link unsettled", {0, 1}), ("link settled", {1})])
def test_a_worker_killed_between_two_links(place: Place, step: str, may_run_again: set[int]) -> None:
    with place.scene(MANY_CRASHES | LEASE) as scene:
        canvases = canvases_of(scene)
        worker = start(scene, step)
        armed, go = scene.workers.directory / "armed", scene.workers.directory / "go"
        result = chain(canvases.held.s(1, str(go)), *[canvases.link.s() for _ in range(5)]).apply_async()
        links = [result]
        while links[0].parent is not None:
            links.insert(0, links[0].parent)
        wait_for(lambda: links[0].id in scene.ledger.running(), 20, "the first link")
        armed.touch()
        go.touch()
        wait_for(lambda: worker.process.poll() is not None, 20, f"the worker dies: {step}")
        assert not armed.exists(), f"it died of something else:\n{worker.output()[-3000:]}"
        scene.workers.start("-c", "2", "-n", "next", app="apps.canvases")
        assert result.get(timeout=20) == 6
        begun = Counter(scene.ledger.begun())
        counts = [begun[link.id] for link in links]
        assert all(count == 1 or (count == 2 and at in may_run_again) for at, count in enumerate(counts)), counts
        assert scene.broker.size("celery").held == 0
