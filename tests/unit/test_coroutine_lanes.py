"""What makes lanes of coroutines fast: exact timers, and reports that go together."""

from __future__ import annotations

import asyncio
import time

from umbel.executors import packets
from umbel.executors.lanes.fineness import FineSelector, new_loop


def sleeps(loop: asyncio.AbstractEventLoop) -> float:
    """Seconds that fifty sleeps of a fifth of a millisecond take."""

    async def main() -> float:
        began = time.perf_counter()
        for _ in range(50):
            await asyncio.sleep(0.0002)
        return time.perf_counter() - began

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def test_timers_are_finer_than_a_millisecond() -> None:
    plain = min(sleeps(asyncio.SelectorEventLoop()) for _ in range(3))
    fine = min(sleeps(new_loop()) for _ in range(3))
    assert plain >= 50 * 0.001, "epoll rounds up: if it does no more, the finer selector has no use"
    assert fine < plain * 0.8


def test_a_loop_of_another_policy_is_left_as_it_is() -> None:
    class Own(asyncio.SelectorEventLoop):
        pass

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return Own()

    asyncio.set_event_loop_policy(Policy())
    try:
        loop = new_loop()
        assert type(loop) is Own
        loop.close()
    finally:
        asyncio.set_event_loop_policy(None)


def test_a_descriptor_wakes_the_fine_selector_before_its_timeout() -> None:
    import socket

    first, second = socket.socketpair()
    with FineSelector() as selector, first, second:
        selector.register(first, 1)
        second.send(b"!")
        began = time.perf_counter()
        assert [key.fileobj for key, _ in selector.select(30.0)] == [first]
        assert time.perf_counter() - began < 10.0


def test_a_bundle_holds_its_packets_in_order() -> None:
    sent = [packets.encode_refused(number) for number in (3, 1, 2)]
    bundle = packets.encode_bundle(sent)
    assert packets.kind_of(bundle) == packets.BUNDLE
    assert packets.number_of(bundle) == 0
    assert packets.decode_bundle(bundle) == sent
