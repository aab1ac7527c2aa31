"""The channel between supervisor and executor: packets stay whole, and unread ones come back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from umbel.executors import channel as channels
from umbel.executors.channel import INLINE_LIMIT, PacketChannel, StreamChannel, SupervisorEnd, open_executor_end

needs_packets = pytest.mark.skipif(not channels.HAS_PACKETS, reason="this system has no SOCK_SEQPACKET")


@pytest.fixture(params=[pytest.param(PacketChannel, marks=needs_packets), StreamChannel])
def channel(request: pytest.FixtureRequest) -> Iterator[SupervisorEnd]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def packet_channel() -> Iterator[PacketChannel]:
    made = PacketChannel()
    yield made
    made.close()


def executor_end(channel: SupervisorEnd) -> channels.ExecutorEnd:
    return open_executor_end(os.dup(channel.executor_fd()))


@pytest.mark.parametrize("size", [9, 1000, INLINE_LIMIT, INLINE_LIMIT + 1, 3 << 20])
def test_packets_arrive_whole_and_in_order_in_both_directions(channel: SupervisorEnd, size: int) -> None:
    end = executor_end(channel)
    packets = [bytes([number]) * size for number in range(3)]
    received: list[bytes | None] = []
    for packet in packets:
        while not channel.send(packet):
            received.append(end.receive())
        if isinstance(channel, StreamChannel) and size > INLINE_LIMIT:
            received.append(_read_while_flushing(channel, end.receive))
    while len(received) < 3:
        received.append(end.receive())
    assert received == packets

    back: list[bytes] = []
    for packet in packets:
        if size <= INLINE_LIMIT or isinstance(channel, PacketChannel):
            end.send(packet)
        else:
            _read_while_flushing(channel, lambda packet=packet: end.send(packet), back)
    while len(back) < 3:
        back += channel.receive(10)
    assert back == packets


def _read_while_flushing(channel: SupervisorEnd, body: Callable[[], bytes | None], into: list[bytes] | None = None):
    import threading

    result: list[bytes | None] = []
    thread = threading.Thread(target=lambda: result.append(body()))
    thread.start()
    while thread.is_alive():
        got = channel.receive(10)
        if into is not None:
            into += got
        thread.join(0.001)
    return result[0]


def test_receive_is_limited_and_never_blocks(channel: SupervisorEnd) -> None:
    end = executor_end(channel)
    assert channel.receive(5) == []
    for number in range(5):
        end.send(bytes([number]) * 10)
    assert len(channel.receive(3)) == 3
    assert len(channel.receive(3)) == 2


@needs_packets
def test_unread_packets_are_taken_back_oldest_first_and_not_delivered(packet_channel: PacketChannel) -> None:
    end = executor_end(packet_channel)
    packets = [bytes([number]) * (10 if number % 2 else INLINE_LIMIT + 5) for number in range(6)]
    for packet in packets:
        assert packet_channel.send(packet)
    assert end.receive() == packets[0]
    assert packet_channel.take_back(2) == packets[1:3]
    assert end.receive() == packets[3]
    assert packet_channel.take_back(100) == packets[4:]
    assert packet_channel.take_back(100) == []


@needs_packets
def test_a_full_channel_refuses_without_loss(packet_channel: PacketChannel) -> None:
    sent = 0
    while packet_channel.send(b"x" * 50_000):
        sent += 1
    assert sent > 10
    assert len(packet_channel.take_back(1 << 30)) == sent
    assert packet_channel.send(b"again")


@needs_packets
def test_memory_files_are_closed(packet_channel: PacketChannel) -> None:
    end = executor_end(packet_channel)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        packet_channel.send(b"y" * (1 << 20))
        end.receive()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_executor_sees_the_end_when_its_supervisor_has_gone() -> None:
    made = StreamChannel()
    end = executor_end(made)
    made.close()
    assert end.receive() is None
