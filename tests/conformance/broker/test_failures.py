"""Failures: servers that restart, connections that break in the worst moment, servers that do not answer.

The rule is that nothing is lost and that no call hangs. Where the driver says so, nothing is doubled either.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from conformance.breaking import cut_during
from conformance.broker.conftest import Connect, Consume
from conformance.drivers import Driver
from conformance.messages import ack, drain, end, make, many, numbers, persist, take
from conformance.waiting import Running, assert_prompt, timed
from proxy import Direction, TCPProxy
from services import PrivateServer
from umbel import Umbel
from umbel.brokers.base import Action, Broker, Consumer, Features, Settlement
from umbel.errors import OperationalError, PublishTimeout
from umbel.queues import Queue
from workers import wait_for

BODY = b"x" * 2_000


@pytest.fixture
def distant(connect: Connect, proxy: TCPProxy, url: str, queue: Queue) -> Broker:
    """A broker that reaches its server through the proxy, and has done so."""
    broker = connect(proxy.url(url))
    assert broker.size(queue.name).ready == 0
    broker.publish([])
    return broker


@pytest.fixture
def fresh(driver: Driver) -> Queue:
    """A queue for a server of the test's own."""
    return Queue(f"q-{secrets.token_hex(6)}", **driver.queue)


@pytest.mark.slow
@pytest.mark.calm
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_everything_survives_a_restart(connect: Connect, server: PrivateServer, fresh: Queue, how: str) -> None:
    broker = connect(server.url)
    broker.declare(fresh)
    broker.publish(many(fresh.name, 3, task="t"))
    with broker.consumer([fresh], name="before@test", lease=2.0) as consumer:
        dead, parked, requeued = take(consumer, 3)
        end(consumer, dead, Action.DEAD_LETTER, reason="why")
        end(consumer, parked, Action.PARK)
        end(consumer, requeued, Action.REQUEUE, delay=0.1)
    broker.publish([make(fresh.name, str(n).encode()) for n in range(3, 100)])
    broker.publish([make(fresh.name, b"100", eta=time.time() + 1.0)])
    getattr(server, how)()
    server.start()
    after = connect(server.url)
    with after.consumer([fresh], name="after@test", lease=60.0) as consumer:
        taken = take(consumer, 99, patient=True)
        assert sorted(numbers(taken)) == list(range(2, 101))
        ack(consumer, taken)
    assert [letter.reason for letter in after.dead_letters(fresh.name)] == ["why"]
    assert after.parked(fresh.name) == {"t": 1}
    persist(lambda: broker.publish([make(fresh.name, b"same object")]))
    assert wait_for(lambda: after.size(fresh.name).ready) == 1


@pytest.mark.slow
@pytest.mark.calm
@pytest.mark.timeout(180)
def test_waiting_consumer_and_listener_go_on_after_a_restart(
    connect: Connect, server: PrivateServer, fresh: Queue
) -> None:
    broker = connect(server.url)
    broker.declare(fresh)
    with broker.consumer([fresh], name="waiting@test", lease=5.0) as consumer:
        waiting = Running(lambda: take(consumer, 1, 60.0, patient=True))
        server.stop()
        server.start()
        persist(lambda: connect(server.url).publish([make(fresh.name, b"7")]))
        published = time.time()
        taken = waiting.result(60.0)
        assert numbers(taken) == [7]
        assert waiting.ended - published < 6.0
        assert persist(lambda: consumer.settle([Settlement(taken[0])])).stale == []


CUTS: list[tuple[Direction, int]] = [("up", 1), ("up", 5_000), ("up", 40_000), ("down", 1)]


@pytest.mark.parametrize(("direction", "size"), CUTS)
def test_cut_while_publishing(
    distant: Broker, consume: Consume, proxy: TCPProxy, queue: Queue, driver: Driver, direction: Direction, size: int
) -> None:
    messages = [make(queue.name, BODY + str(n).encode()) for n in range(40)]
    distant.publish([make(queue.name, b"the connection is warm")])
    cut_during(lambda: distant.publish(messages), proxy, direction, size)
    taken = Counter(delivery.message.id for delivery in drain(consume()) if delivery.message.body.startswith(BODY))
    assert set(taken) == {message.id for message in messages}, "lost"
    if driver.resends_exactly:
        assert set(taken.values()) == {1}, "doubled"


@pytest.mark.parametrize(("direction", "size"), CUTS)
def test_cut_while_settling(
    distant: Broker,
    consume: Consume,
    new_queue: Callable[..., Queue],
    proxy: TCPProxy,
    queue: Queue,
    driver: Driver,
    features: Features,
    direction: Direction,
    size: int,
) -> None:
    after = new_queue()
    distant.publish(many(queue.name, 20))
    consumer = consume(broker=distant)
    settlements = [
        Settlement(held, publish=(make(after.name, BODY + held.message.body, id=held.message.id),))
        for held in take(consumer, 20)
    ]
    ids = [settlement.delivery.message.id for settlement in settlements]
    cut_during(lambda: consumer.settle(settlements), proxy, direction, size)
    persist(lambda: consumer.renew())
    consumer.close()
    again = [delivery.message.id for delivery in drain(consume())]
    followed = Counter(delivery.message.id for delivery in drain(consume(after)))
    assert set(again) | set(followed) == set(ids), "lost"
    if features.survives_reconnect:
        assert again == [], "settled, and delivered again all the same"
    if features.survives_reconnect and driver.resends_exactly:
        assert followed == Counter(ids), "doubled"


def test_cut_while_settling_and_claiming(
    distant: Broker, consume: Consume, proxy: TCPProxy, queue: Queue, features: Features
) -> None:
    """The answer that is lost carries new deliveries: they come all the same."""
    distant.publish(many(queue.name, 40))
    consumer = consume(broker=distant)
    settlements = [Settlement(held) for held in take(consumer, 20)]
    done: list[int] = []

    def settle() -> None:
        done.extend(numbers(consumer.settle(settlements, want=20).deliveries))

    cut_during(settle, proxy, "down", 1)
    rest = 20 - len(done)
    if features.survives_reconnect:
        done += numbers(take(consumer, rest, patient=True))
        assert done == list(range(20, 40))
    else:
        persist(consumer.renew)
        consumer.close()
        assert set(numbers(drain(consume()))) >= set(range(20, 40)) - set(done)


def test_what_a_lost_answer_claimed_reaches_others_while_its_worker_asks_for_nothing(
    distant: Broker, consume: Consume, connect: Connect, proxy: TCPProxy, queue: Queue
) -> None:
    """As when all its lanes are busy with long tasks: it renews its lease, and that is all."""
    distant.publish(many(queue.name, 6))
    consumer = consume(broker=distant)
    first, second = take(consumer, 2)
    ack(consumer, [first])

    def settle_in_vain() -> None:
        with pytest.raises(OperationalError):
            consumer.settle([Settlement(second)], want=2)

    cut_during(settle_in_vain, proxy, "down", 1)

    def returned() -> bool:
        persist(consumer.renew)
        return connect().size(queue.name).ready >= 4

    wait_for(returned)


def test_cut_while_waiting(distant: Broker, consume: Consume, connect: Connect, proxy: TCPProxy, queue: Queue) -> None:
    consumer = consume(broker=distant)
    consumer.receive(1, 0.0)
    waiting = Running(lambda: take(consumer, 1, patient=True))
    proxy.cut()
    connect().publish([make(queue.name, b"5")])
    assert numbers(waiting.result()) == [5]


def test_cut_between_calls(distant: Broker, consume: Consume, proxy: TCPProxy, queue: Queue) -> None:
    for number in range(3):
        proxy.cut()
        persist(lambda number=number: distant.publish([make(queue.name, str(number).encode())]))
    proxy.cut()
    assert persist(lambda: distant.size(queue.name)).ready >= 3
    assert set(numbers(drain(consume()))) == {0, 1, 2}


def assert_fails_within(seconds: float, call: Callable[[], object], error: type[Exception] = OperationalError) -> None:
    def fail() -> None:
        with pytest.raises(error):
            call()

    assert_prompt(seconds, lambda: timed(fail))


@pytest.fixture(params=["refused", "silent"])
def unreachable(request: pytest.FixtureRequest, proxy: TCPProxy) -> TCPProxy:
    """A proxy behind which nobody answers: connections are refused, or accepted and left alone."""
    proxy.refuse() if request.param == "refused" else proxy.blackhole()
    return proxy


@pytest.fixture
def lonely(connect: Connect, unreachable: TCPProxy, url: str) -> Iterator[Broker]:
    """A broker that never reached its server."""
    yield connect(unreachable.url(url), connect_timeout=1.0, publish_timeout=1.5)
    unreachable.heal()


@pytest.mark.calm
def test_publish_to_an_unreachable_server_ends_in_time(lonely: Broker, queue: Queue) -> None:
    assert_fails_within(2.5, lambda: lonely.publish([make(queue.name)]))
    assert_fails_within(1.5, lambda: lonely.publish([make(queue.name)], timeout=0.5))


@pytest.mark.calm
def test_other_calls_to_an_unreachable_server_end_in_time(lonely: Broker, queue: Queue) -> None:
    def consume() -> None:
        with lonely.consumer([queue], name="lonely@test") as consumer:
            consumer.receive(1, 0.5)

    calls: list[Callable[[], object]] = [
        lambda: lonely.size(queue.name),
        lambda: lonely.declare(queue),
        lambda: lonely.lock("name", 1.0).acquire(),
        consume,
    ]
    for call in calls:
        assert_fails_within(8.0, call)


@pytest.mark.calm
def test_publish_into_a_connection_that_fell_silent(distant: Broker, proxy: TCPProxy, queue: Queue) -> None:
    distant.publish([make(queue.name)])
    proxy.blackhole()
    assert_fails_within(2.0, lambda: distant.publish([make(queue.name)], timeout=1.0))
    proxy.heal()
    persist(lambda: distant.publish([make(queue.name)]))


@pytest.mark.calm
@pytest.mark.parametrize("warm", [False, True], ids=["never reached", "fell silent"])
def test_declaring_at_a_silent_server_ends_in_time(
    connect: Connect, proxy: TCPProxy, url: str, queue: Queue, driver: Driver, warm: bool
) -> None:
    broker = connect(proxy.url(url))
    if warm:
        broker.declare(queue)
    proxy.blackhole()
    new = Queue(f"q-{secrets.token_hex(6)}", **driver.queue)
    assert_fails_within(1.5, lambda: broker.declare(new, timeout=1.0))
    proxy.heal()
    persist(lambda: broker.declare(queue, timeout=5.0))


@pytest.mark.calm
@pytest.mark.parametrize("warm", [False, True], ids=["never reached", "fell silent"])
def test_delay_to_a_silent_server_ends_in_time(proxy: TCPProxy, url: str, queue: Queue, warm: bool) -> None:
    """The queue is new to the sender: declaring and publishing share one deadline."""
    with Umbel("sender", broker=proxy.url(url), publish_timeout=1.0) as app:
        if warm:
            app.broker.size(queue.name)
        proxy.blackhole()
        assert_fails_within(1.5, lambda: app.send_task("a.task", queue=f"{queue.name}-new"), PublishTimeout)
        proxy.heal()


def test_error_names_the_server_without_its_password(connect: Connect, proxy: TCPProxy, url: str, queue: Queue) -> None:
    proxy.refuse()
    address = proxy.url(url)
    scheme, _, rest = address.partition("://")
    rest = rest.rpartition("@")[2]
    broker = connect(f"{scheme}://user:s3cret@{rest}")
    with pytest.raises(OperationalError) as caught:
        broker.publish([make(queue.name)], timeout=0.5)
    assert "s3cret" not in str(caught.value)
    assert str(proxy.port) in str(caught.value)


def test_consumer_survives_a_refusing_server(
    distant: Broker, consume: Consume, connect: Connect, proxy: TCPProxy, queue: Queue
) -> None:
    consumer: Consumer = consume(broker=distant)
    consumer.receive(1, 0.0)
    proxy.refuse()
    proxy.cut()
    with pytest.raises(OperationalError):
        while True:
            consumer.receive(1, 0.5)
    proxy.heal()
    connect().publish([make(queue.name, b"6")])
    assert numbers(take(consumer, 1, patient=True)) == [6]
