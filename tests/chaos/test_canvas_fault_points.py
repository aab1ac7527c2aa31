"""A worker killed at each step between the end of a chord's last member and its body: the body runs, and runs once.

Killed by the faults of ``apps.faults``, at those very steps. ``UMBEL_TEST_FULL=1`` (``make chaos``) has every step on
every system.
"""

from __future__ import annotations

import importlib
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

from chaos.conftest import Place
from chaos.scene import FULL, MANY_CRASHES, Scene
from umbel import chord
from workers import WorkerProcess, wait_for

LEASE = {"UMBEL_WORKER_LEASE": "1.5", "UMBEL_WORKER_LEASE_RENEWAL": "0.3"}

pytestmark = pytest.mark.timed(0.5)

MEMBER_MAY_RUN_AGAIN = {"part unnoted", "part noted", "result stored", "member unsettled", "finish sent"}
"""Steps at which its end was not settled yet."""

ONE_SYSTEM = [
    "member unsettled",
    "member settled",
    "chord unclaimed",
    "chord claimed",
    "parts read",
    "body unpublished",
    "body published",
    "chord closed",
]
SEVERAL = ["part unnoted", "part noted", "result stored", "finish sent", *ONE_SYSTEM, "body sent"]
"""Where results are in another system than messages."""

SHORTER = ["member unsettled", "member settled", "body unpublished"]


def steps(system: str) -> list[str]:
    if system == "rabbitmq":
        return SEVERAL if FULL else ["part noted", "result stored", "finish sent", "body sent"]
    return ONE_SYSTEM if FULL or system == "redis" else SHORTER


def canvases_of(scene: Scene) -> ModuleType:
    """``apps.canvases``, on the application of the scene."""
    module = importlib.import_module("apps.canvases")
    scene.tasks.app.set_current()
    return module


@pytest.mark.parametrize("system", ["redis", "sqlite", "postgresql", "rabbitmq"], indirect=True)
def test_a_worker_killed_on_the_way_to_the_body(place: Place) -> None:
    """Pain 10: chords never fire."""
    with place.scene(MANY_CRASHES | LEASE) as scene:
        canvases = canvases_of(scene)
        found: dict[str, dict[str, int]] = {}
        before: tuple[str, Any, set[int]] | None = None
        for step in steps(place.system):
            worker = start(scene, step)
            if before is not None:
                found[before[0]] = ended(scene, *before)
            before = (step, *killed_at(scene, canvases, step, worker))
        assert before is not None
        scene.workers.start("-c", "2", "-n", "last", app="apps.canvases")
        found[before[0]] = ended(scene, *before)
        print(*found.items(), sep="\n")
        assert_once(place.system, found)


def start(scene: Scene, step: str) -> WorkerProcess:
    fault = {"FAULT_POINT": step, "FAULT_FILE": str(scene.workers.directory / "armed")}
    return scene.workers.start("-c", "2", "-n", step.replace(" ", "-"), app="apps.faults", environment=fault)


def killed_at(scene: Scene, canvases: ModuleType, step: str, worker: WorkerProcess) -> tuple[Any, set[int]]:
    """Run a chord up to its last member, and kill the worker at ``step`` after that. Returns the processes that ran
    tasks and are gone."""
    armed, go = scene.workers.directory / "armed", scene.workers.directory / f"go-{step.replace(' ', '-')}"
    members = [canvases.member.s(1), canvases.member.s(2), canvases.held.s(3, str(go))]
    result = chord(members, canvases.body.s()).apply_async()
    first, second, last = result.parent.results
    wait_for(lambda: first.ready() and second.ready(), 20, "the other members")
    wait_for(lambda: last.id in scene.ledger.running(), 20, "the last member")
    pids = worker.executor_pids()
    armed.touch()
    go.touch()
    wait_for(lambda: worker.process.poll() is not None, 20, f"the worker dies: {step}")
    assert not armed.exists(), f"it died of something else:\n{worker.output()[-3000:]}"
    return result, pids


def ended(scene: Scene, step: str, result: Any, dead: set[int]) -> dict[str, int]:
    """How often last member and body of a chord were begun by other processes than these ``dead`` ones, once it has its
    result."""
    try:
        assert result.get(timeout=20) == 6
    except Exception as error:
        raise AssertionError(f"no body after: {step}") from error
    begun = scene.ledger.begun()
    first, second, last = (member.id for member in result.parent.results)
    assert (begun[first], begun[second]) == (1, 1), step
    elsewhere = Counter(each.id for each in scene.ledger.entries() if each.event == "begin" and each.pid not in dead)
    return {"last": elsewhere[last], "body": elsewhere[result.id]}


def assert_once(system: str, found: dict[str, dict[str, int]]) -> None:
    for step, counts in found.items():
        # With two systems the body is sent before umbel.chord is acknowledged, so a worker that dies in between has
        # it sent once more.
        bodies = 2 if system == "rabbitmq" and step == "body sent" else 1
        assert counts["body"] <= bodies, (step, counts)
        assert counts["last"] <= (step in MEMBER_MAY_RUN_AGAIN), (step, counts)
