"""What executors report, and how a lane of the event loop goes from one task to the next."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from umbel import Umbel
from umbel.backends.base import Part, Result
from umbel.endings import Outcome
from umbel.executors import packets
from umbel.executors.board import Board
from umbel.executors.channel import open_channel, open_executor_end
from umbel.executors.executor import forks_behind, packed, report_of
from umbel.executors.interrupts import open_bell
from umbel.executors.lanes import coroutines
from umbel.executors.lanes.base import Station
from umbel.executors.lanes.coroutines import AsyncioLanes
from umbel.message import Message
from umbel.sending import prepare

MESSAGE = Message(id="next", task="t", queue="q", headers=b"{}", body=b"[]")


@pytest.mark.parametrize(
    "following",
    [
        {},
        {"result": Result("a", "SUCCESS", b"{}", 60.0, "reply", "correlation")},
        {"publish": (MESSAGE,)},
        {"parts": (Part("c", "a", 0, b"[]", 2, 0, 60.0, MESSAGE),)},
        {"closes": "chord"},
    ],
    ids=lambda following: ",".join(following) or "nothing",
)
def test_a_success_is_reported_whole(following: dict[str, Any]) -> None:
    outcome = Outcome(state="SUCCESS", value=1, runtime=0.25, **following)
    packet = report_of(7, outcome)
    assert (packets.number_of(packet), packets.kind_of(packet)) == (7, packets.OUTCOME)
    assert packets.decode_report(packet) == packed(outcome)


def test_a_failure_is_reported_whole() -> None:
    outcome = Outcome(state="FAILURE", traceback="lines", reason="no", error_repr="Error()", delay=1.0)
    assert packets.decode_report(report_of(7, outcome)) == packed(outcome)


def test_what_was_ended_by_force_has_no_outcome() -> None:
    assert packets.kind_of(report_of(7, None)) == packets.ENDED


def test_a_forked_child_knows_that_it_is_one() -> None:
    before = forks_behind()
    child = os.fork()
    if child == 0:
        os._exit(0 if forks_behind() != before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert forks_behind() == before


# -- lanes of the event loop --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def loops_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stay as they are: lanes of an event loop have the process for themselves, which other tests need after them."""
    monkeypatch.setattr(coroutines, "use_loop_of", lambda run: None)  # pyright: ignore[reportUnknownLambdaType]


def run_lanes(count: int, *tasks: Callable[..., Any]) -> list[bytes]:
    """Run these coroutine functions, each a task, in so many lanes; what was reported, in order."""
    app = Umbel("lanes", broker="memory://", backend="memory://", set_as_current=False)
    channel, board = open_channel(), Board(count)
    own_bell, bell = open_bell()
    try:
        board.lease_end = time.monotonic() + 60
        for number, function in enumerate(tasks, 1):
            task = app.task(name=f"task{number}")(function)
            channel.send(packets.encode_task(number, prepare(app, task.name, (), {}, {}, task), 0))
        channel.send(packets.encode_stop())
        end = open_executor_end(os.dup(channel.executor_fd()))
        AsyncioLanes(Station(app, end, board, 0, count, "here", bell.detach())).run()
        end.close()
        found: list[bytes] = []
        for packet in channel.receive(1000):
            found += packets.decode_bundle(packet) if packets.kind_of(packet) == packets.BUNDLE else [packet]
        return found
    finally:
        own_bell.close()
        channel.close()
        board.close()


def kinds(reports: list[bytes]) -> dict[int, int]:
    return {packets.number_of(report): packets.kind_of(report) for report in reports}


def test_a_lane_begins_its_next_task_in_the_next_round_of_the_loop() -> None:
    rounds = 0
    seen: list[int] = []

    def count() -> None:
        nonlocal rounds
        rounds += 1
        asyncio.get_running_loop().call_soon(count)

    async def first() -> None:
        count()
        await asyncio.sleep(0.01)
        seen.append(rounds)

    async def second() -> None:
        seen.append(rounds)

    assert set(kinds(run_lanes(1, first, second)).values()) == {packets.OUTCOME}
    ended, begun = seen
    assert begun - ended <= 1


def test_a_lane_whose_task_was_cancelled_before_it_ran_refuses_it_and_goes_on() -> None:
    ran: list[str] = []

    async def cancels() -> None:
        ran.append("cancels")
        lanes = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "_run"]
        for task in lanes:
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.sleep(0)

    async def cancelled() -> None:
        ran.append("cancelled")

    async def later() -> None:
        ran.append("later")

    reports = kinds(run_lanes(2, cancels, cancelled, later, later))
    assert reports == {1: packets.OUTCOME, 2: packets.REFUSED, 3: packets.OUTCOME, 4: packets.OUTCOME}
    assert ran == ["cancels", "later", "later"]


def test_a_task_that_cancels_itself_as_the_last_thing_it_does_has_succeeded_once() -> None:
    async def cancels_itself() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return 1

    async def later() -> int:
        return 2

    reports = run_lanes(1, cancels_itself, later)
    assert [packets.number_of(report) for report in reports] == [1, 2]
    assert {packets.decode_report(report).state for report in reports} == {"SUCCESS"}
