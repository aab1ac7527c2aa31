"""How much the worker holds, who gets it, and what comes back: on real channels, without processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from umbel import Umbel
from umbel.brokers.base import Delivery
from umbel.executors import channel as channels
from umbel.executors import packets
from umbel.executors.channel import PacketChannel
from umbel.message import Headers, Message, encode_headers
from umbel.worker.dispatch import MOST_HELD_EACH, Dispatcher, fixed_window
from umbel.worker.pool import ExecutorHandle

pytestmark = pytest.mark.skipif(not channels.HAS_PACKETS, reason="this system has no SOCK_SEQPACKET")

WINDOW = 0.2


def delivery(task: str = "quick", body: bytes = b"[[],{},{}]") -> Delivery:
    headers = encode_headers(Headers(task=task, id="1"))
    return Delivery("tag", "celery", Message(id="1", task=task, queue="celery", headers=headers, body=body))


@pytest.fixture
def executors() -> Iterator[list[ExecutorHandle]]:
    made = [ExecutorHandle(slot, PacketChannel()) for slot in range(2)]
    yield made
    for executor in made:
        executor.channel.close()


@pytest.fixture
def dispatcher(executors: list[ExecutorHandle]) -> Dispatcher:
    return Dispatcher(lambda: executors, WINDOW, None)


def put(dispatcher: Dispatcher, count: int, task: str = "quick") -> None:
    for _ in range(count):
        dispatcher.put(dispatcher.job(delivery(task)))


def learn(dispatcher: Dispatcher, task: str, seconds: float) -> None:
    for _ in range(100):
        dispatcher.durations.observe(task, seconds)


def read_numbers(executor: ExecutorHandle, limit: int) -> list[int]:
    """As the executor would."""
    return [packets.number_of(packet) for packet in executor.channel.take_back(limit)]


def finish_all(dispatcher: Dispatcher, executor: ExecutorHandle, runtime: float = 0.0001) -> None:
    for number in list(executor.jobs):
        dispatcher.finish(executor, number, runtime)


def test_an_unknown_task_is_held_in_small_numbers_until_its_duration_is_known(dispatcher: Dispatcher) -> None:
    assert 2 <= dispatcher.room().wanted <= 6
    learn(dispatcher, "quick", 0.0001)
    assert dispatcher.room().wanted == 2 * MOST_HELD_EACH


def test_of_long_tasks_one_is_held_for_each_executor(dispatcher: Dispatcher) -> None:
    learn(dispatcher, "long", 5.0)
    assert dispatcher.room().wanted == 2
    put(dispatcher, 2, "long")
    dispatcher.pump()
    assert dispatcher.room().wanted == 0


def test_a_fixed_window_counts_messages(executors: list[ExecutorHandle]) -> None:
    dispatcher = Dispatcher(lambda: executors, WINDOW, 4)
    assert dispatcher.room().wanted == 8
    put(dispatcher, 3)
    dispatcher.pump()
    assert dispatcher.room().wanted == 5


def test_work_is_spread_evenly_and_in_order(dispatcher: Dispatcher, executors: list[ExecutorHandle]) -> None:
    learn(dispatcher, "quick", 0.0001)
    put(dispatcher, 100)
    dispatcher.pump()
    numbers = [read_numbers(executor, 1000) for executor in executors]
    assert [len(each) for each in numbers] == [50, 50]
    assert all(each == sorted(each) for each in numbers)


def test_an_idle_executor_takes_half_of_what_a_busy_one_has_not_read(
    dispatcher: Dispatcher, executors: list[ExecutorHandle]
) -> None:
    learn(dispatcher, "quick", 0.0001)
    put(dispatcher, 100)
    dispatcher.pump()
    busy, idle = executors
    assert len(read_numbers(busy, 1)) == 1
    read_numbers(idle, 1000)
    finish_all(dispatcher, idle)
    dispatcher.balance()
    assert len(idle.jobs) == 25
    assert len(busy.jobs) == 25
    assert len(read_numbers(idle, 1000)) == 25
    assert len(read_numbers(busy, 1000)) == 24


def test_taking_back_leaves_what_was_read(dispatcher: Dispatcher, executors: list[ExecutorHandle]) -> None:
    learn(dispatcher, "quick", 0.0001)
    put(dispatcher, 10)
    dispatcher.pump()
    first = read_numbers(executors[0], 1)
    taken = dispatcher.take_back(executors[0], 100)
    assert len(taken) == 4
    assert list(executors[0].jobs) == first


def test_a_request_to_stop_is_not_taken_back(dispatcher: Dispatcher, executors: list[ExecutorHandle]) -> None:
    put(dispatcher, 4)
    dispatcher.pump()
    executors[0].channel.send(packets.encode_stop())
    assert [job.number for job in dispatcher.take_back(executors[0], 100)] == [1, 2]
    assert dispatcher.take_back(executors[0], 100) == []
    assert [packets.kind_of(packet) for packet in executors[0].channel.take_back(100)] == [packets.STOP]


def test_the_load_of_an_executor_without_jobs_is_nothing(
    dispatcher: Dispatcher, executors: list[ExecutorHandle]
) -> None:
    for seconds in (0.003, 0.07, 0.0011):
        learn(dispatcher, "quick", seconds)
        put(dispatcher, 7)
        dispatcher.pump()
    for executor in executors:
        finish_all(dispatcher, executor)
        assert executor.load == 0.0


def test_large_messages_limit_what_is_held(dispatcher: Dispatcher) -> None:
    learn(dispatcher, "quick", 0.0001)
    body = b"x" * (40 << 20)
    for _ in range(2):
        dispatcher.put(dispatcher.job(delivery(body=body)))
    assert dispatcher.room().wanted == 0
    for job in dispatcher.drop_backlog():
        dispatcher.forget(job)
    assert dispatcher.room().wanted > 0


def test_an_executor_is_never_sent_more_than_its_allowance(
    dispatcher: Dispatcher, executors: list[ExecutorHandle]
) -> None:
    learn(dispatcher, "quick", 0.0001)
    executors[0].allowance = 3
    put(dispatcher, 20)
    dispatcher.pump()
    assert len(executors[0].jobs) == 3 and executors[0].allowance == 0
    assert len(executors[1].jobs) == 17
    read_numbers(executors[0], 1)
    assert len(dispatcher.take_back(executors[0], 10)) == 2
    assert executors[0].allowance == 2, "what it has not read counts no more"


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({}, None),
        ({"worker_prefetch_multiplier": 4}, 4),
        ({"worker_prefetch_multiplier": 0}, MOST_HELD_EACH),
        ({"worker_prefetch_multiplier": 4, "worker_disable_prefetch": True}, 1),
    ],
)
def test_settings_may_fix_the_window(settings: dict[str, Any], window: int | None) -> None:
    app = Umbel("test", set_as_current=False, **settings)
    assert fixed_window(app.conf) == window
