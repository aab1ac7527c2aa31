"""When a worker grows and shrinks: the limits, the default policy and the cool-down, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from umbel import Autoscaler, Umbel
from umbel.autoscaling import Bounds, Cooldown, Stats
from umbel.errors import ConfigurationError
from umbel.executors.lanes import find_lanes
from umbel.worker.autoscale import find_autoscaler
from umbel.worker.size import Size, size_of


def stats(**given: object) -> Stats:
    values = {"size": 2, "minimum": 1, "maximum": 10, "busy": 0, "held": 0, "runtime": 0.1, "load": 0.5}
    return Stats(**{**values, "since_change": 5.0, **given})  # pyright: ignore[reportArgumentType]


# -- limits --


def test_the_larger_number_comes_first_and_the_smaller_may_be_left_out() -> None:
    assert Bounds.parse("10,3") == Bounds(maximum=10, minimum=3)
    assert Bounds.parse(" 10 , 3 ") == Bounds(10, 3)
    assert Bounds.parse("10") == Bounds(10, 0)
    assert Bounds.parse("4,4") == Bounds(4, 4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3,10", "the minimum 10 is above the maximum 3"),
        ("ten,3", "whole numbers"),
        ("10,", "whole numbers"),
        ("", "whole numbers"),
        ("-1", "whole numbers"),
        ("10,-3", "whole numbers"),
        ("1.5,1", "whole numbers"),
        ("3,2,1", "MAX,MIN"),
        ("0", "at least 1"),
        ("0,0", "at least 1"),
    ],
)
def test_limits_that_make_no_sense_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Bounds.parse(text)


def test_a_worker_keeps_one_lane_at_least() -> None:
    bounds = Bounds(10, 0)
    assert [bounds.clamp(size) for size in (-5, 0, 1, 7, 10, 11)] == [1, 1, 1, 7, 10, 10]
    assert Bounds(10, 3).clamp(1) == 3


# -- what is scaled --


@pytest.mark.parametrize(
    ("pool", "concurrency", "processes", "largest", "parts"),
    [
        ("prefork", None, None, Size(10, 1), {1: Size(1, 1), 7: Size(7, 1)}),
        ("prefork", 4, None, Size(10, 1), {7: Size(7, 1)}),
        ("threads", None, None, Size(1, 10), {1: Size(1, 1), 7: Size(1, 7)}),
        ("threads", 3, None, Size(4, 3), {1: Size(1, 3), 3: Size(1, 3), 7: Size(3, 3), 10: Size(4, 3)}),
        ("asyncio", None, 2, Size(2, 5), {1: Size(1, 5), 5: Size(1, 5), 6: Size(2, 5)}),
        ("asyncio", 100, None, Size(1, 10), {7: Size(1, 7)}),
    ],
)
def test_whole_processes_where_there_are_several_else_lanes(
    pool: str, concurrency: int | None, processes: int | None, largest: Size, parts: dict[int, Size]
) -> None:
    size = size_of(find_lanes(pool), Umbel().conf, concurrency, processes, Bounds(10, 1))
    assert size == largest
    assert {tasks: size.part(tasks) for tasks in parts} == parts


def test_solo_cannot_be_scaled() -> None:
    with pytest.raises(ConfigurationError, match="nothing to scale"):
        size_of(find_lanes("solo"), Umbel().conf, None, None, Bounds(2, 1))


# -- policy --


def test_it_wants_a_lane_for_what_runs_and_for_what_waits_here_or_in_the_broker() -> None:
    assert stats(busy=2, held=2, queues={"a": 3, "b": 1}).needed == 6
    assert stats(busy=2, held=5).needed == 5
    assert stats(busy=2, held=2, queues={"unknown": -1}).needed == 2
    assert stats().needed == 0
    autoscaler = Autoscaler(Umbel(), 1, 10)
    assert autoscaler.desired(stats(busy=2, held=2, queues={"a": 3})) == 5


def test_latency_is_the_time_until_all_that_waits_has_begun() -> None:
    assert stats(size=4, busy=4, held=4, queues={"a": 20}, runtime=0.5).latency == pytest.approx(2.5)
    assert stats(size=4, busy=1, held=1).latency == 0


def course(cooldown: Cooldown, asked: Iterable[tuple[float, int]]) -> list[int]:
    return [cooldown.settle(size, moment) for moment, size in asked]


def test_it_grows_at_once() -> None:
    assert course(Cooldown(30), [(0, 1), (1, 5), (2, 9)]) == [1, 5, 9]


def test_it_shrinks_when_less_was_needed_for_the_whole_time_and_only_to_the_most_that_was() -> None:
    asked = [(0, 9), (1, 2), (10, 4), (20, 2), (30, 1), (31, 1), (39, 1), (40.5, 1), (50.5, 1), (61, 1)]
    assert course(Cooldown(30), asked) == [9, 9, 9, 9, 9, 4, 4, 2, 1, 1]


def test_load_that_comes_and_goes_does_not_make_it_flap() -> None:
    cooldown = Cooldown(30)
    sizes = course(cooldown, [(second, 10 if second % 10 == 0 else 1) for second in range(300)])
    assert set(sizes) == {10}


def test_without_a_cool_down_it_follows() -> None:
    assert course(Cooldown(0), [(0, 9), (1, 1), (2, 5)]) == [9, 1, 5]


# -- classes of users --


class Own(Autoscaler):
    def desired(self, stats: Stats) -> int:
        return 1


def test_the_class_is_given_as_such_or_by_its_name() -> None:
    assert find_autoscaler(None) is Autoscaler
    assert find_autoscaler("celery.worker.autoscale:Autoscaler") is Autoscaler
    assert find_autoscaler(Own) is Own
    assert find_autoscaler("umbel.autoscaling:Autoscaler") is Autoscaler


@pytest.mark.parametrize("given", ["umbel.autoscaling:Stats", "umbel.autoscaling:Nothing", "no.such:Thing", Stats])
def test_what_is_no_autoscaler_is_refused(given: str | type) -> None:
    with pytest.raises(ConfigurationError):
        find_autoscaler(given)


def test_the_example_of_the_documentation() -> None:
    page = Path(__file__).parents[2] / "docs/how-to/autoscaling.md"
    found: dict[str, Any] = {}
    exec(page.read_text().partition("```python\n")[2].partition("```")[0], found)
    autoscaler = found["ByLatency"](Umbel(), 1, 10)
    assert find_autoscaler(found["ByLatency"]) is found["ByLatency"]
    patient = stats(size=4, busy=4, held=4, queues={"a": 20}, runtime=0.5)
    assert autoscaler.desired(patient) == 4
    late = stats(size=4, busy=4, held=4, queues={"a": 200}, runtime=0.5)
    assert autoscaler.desired(late) == 10
    assert autoscaler.desired(stats(size=4, busy=2, held=2)) == 2
    assert autoscaler.desired(stats(size=4, busy=4, held=4, memory=2_000_001)) == 3
