"""Failures and life: restarts, broken connections, silence, forks, and that nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.backend.conftest import Connect, Sender
from conformance.breaking import cut_during, in_fork, open_descriptors
from conformance.drivers import Driver
from conformance.messages import persist
from conformance.waiting import Running
from proxy import Direction, TCPProxy
from services import PrivateServer
from umbel.backends import open_backend
from umbel.backends.base import Backend, Features, Meta
from umbel.errors import OperationalError
from umbel.message import new_id
from workers import wait_for


@pytest.mark.slow
@pytest.mark.calm
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_everything_survives_a_restart(
    connect: Connect, server: PrivateServer, driver: Driver, features: Features, how: str
) -> None:
    sender = Sender(connect(driver.address(server.url)))
    kept, awaited = sender.new(2)
    sender.store(kept, "SUCCESS", "kept")
    assert sender.read(kept).result == "kept"
    waiting = Running(lambda: persist(lambda: sender.read(awaited, 60.0), 60.0))
    getattr(server, how)()
    server.start()
    if not driver.one_reader:
        assert persist(lambda: sender.backend.get([kept]))[kept].result == "kept"
    persist(lambda: sender.backend.on_publish([awaited]))
    persist(lambda: sender.store(awaited, "SUCCESS", "after"))
    stored = time.time()
    assert waiting.result(60.0).result == "after"
    assert waiting.ended - stored < 6.0
    (later,) = persist(lambda: sender.new(1))
    persist(lambda: sender.store(later, "SUCCESS", "later"))
    assert persist(lambda: sender.read(later)).result == "later"


@pytest.fixture
def distant(connect: Connect, proxy: TCPProxy, url: str) -> Sender:
    """A client that reaches its server through the proxy, and has done so."""
    sender = Sender(connect(proxy.url(url)))
    (task,) = sender.new(1)
    sender.store(task)
    sender.read(task)
    return sender


def test_cut_between_calls(distant: Sender, proxy: TCPProxy) -> None:
    for number in range(3):
        (task,) = persist(lambda: distant.new(1))
        proxy.cut()
        persist(lambda task=task, number=number: distant.store(task, "SUCCESS", number))
        assert persist(lambda task=task: distant.read(task)).result == number


def test_cut_while_waiting(distant: Sender, proxy: TCPProxy) -> None:
    first, task = distant.new(2)
    seen: list[Meta] = []
    waiting = Running(lambda: persist(lambda: distant.backend.wait([first, task], 20.0, seen.append)))
    distant.store(first)
    wait_for(lambda: seen)
    proxy.cut()
    persist(lambda: distant.backend.on_publish([task]))
    persist(lambda: distant.store(task, "SUCCESS", "after the cut"))
    stored = time.time()
    assert waiting.result()
    assert waiting.ended - stored < 3.0
    assert seen[-1].result == "after the cut"


def test_cut_while_subscribed(distant: Sender, proxy: TCPProxy) -> None:
    (task,) = distant.new(1)
    seen: list[Meta] = []
    distant.backend.subscribe(task, seen.append)
    proxy.cut()
    persist(lambda: distant.backend.on_publish([task]))
    persist(lambda: distant.store(task, "SUCCESS", "after the cut"))
    assert wait_for(lambda: seen)[-1].result == "after the cut"


@pytest.mark.parametrize(("direction", "size"), [("up", 1), ("up", 5_000), ("down", 1)])
def test_cut_while_storing(distant: Sender, proxy: TCPProxy, direction: Direction, size: int) -> None:
    ids = distant.new(20)
    results = [distant.encode(task, "SUCCESS", "x" * 1_000 + task) for task in ids]
    cut_during(lambda: distant.backend.store(results), proxy, direction, size)
    got: set[str] = set()
    assert persist(lambda: distant.backend.wait(ids, 10.0, lambda meta: got.add(meta.task_id)))
    assert got == set(ids)


@pytest.fixture(params=["refused", "silent"])
def lonely(
    request: pytest.FixtureRequest, connect: Connect, backend: Backend, proxy: TCPProxy, url: str
) -> Iterator[Backend]:
    """A backend that never reached its server: connections are refused, or accepted and left alone."""
    address = proxy.url(url)
    proxy.refuse() if request.param == "refused" else proxy.blackhole()
    yield connect(address, connect_timeout=1.0, timeout=1.5)
    proxy.heal()


@pytest.mark.calm
def test_unreachable_server_is_an_error_in_time(lonely: Backend, backend: Backend) -> None:
    result = backend.encode(Meta(task_id="x", status="SUCCESS"), reply_to=new_id(), correlation_id="x")
    calls: list[Callable[[], object]] = [
        lambda: lonely.store([result]),
        lambda: lonely.get([new_id()]),
        lambda: lonely.on_publish([task := new_id()]) or lonely.wait([task], 5.0, lambda _: None) or _never(),
    ]
    for call in calls:
        before = time.monotonic()
        with pytest.raises(OperationalError):
            call()
        assert time.monotonic() - before <= 8.0


def _never() -> None:
    raise AssertionError("the wait timed out, as if the server had been reached")


def test_error_names_the_server_without_its_password(connect: Connect, proxy: TCPProxy, url: str) -> None:
    proxy.refuse()
    scheme, _, rest = proxy.url(url).partition("://")
    backend = connect(f"{scheme}://user:s3cret@{rest.rpartition('@')[2]}", timeout=1.0)
    with pytest.raises(OperationalError) as caught:
        backend.get([new_id()])
    assert "s3cret" not in str(caught.value)


def test_forked_child_uses_the_backend_while_the_parent_goes_on(sender: Sender, features: Features) -> None:
    first, parents, childs = sender.new(3)
    sender.store(first)
    sender.read(first)
    waiting = Running(lambda: sender.read(parents, 20.0))

    def child() -> None:
        sender.backend.after_fork()
        (own,) = sender.new(1)
        sender.store(own, "SUCCESS", "own")
        assert sender.read(own).result == "own"
        if features.shared:
            sender.store(childs, "SUCCESS", "from the child")
        sender.backend.close()

    assert in_fork(child) == 0
    sender.store(parents, "SUCCESS", "from the parent")
    assert waiting.result().result == "from the parent"
    if features.shared:
        assert sender.read(childs).result == "from the child"


def cycle(url: str) -> None:
    """Everything a backend does, in its good order; results are forgotten."""
    backend = open_backend(url)
    sender = Sender(backend)
    ids = sender.new(10)
    seen: list[Meta] = []
    backend.subscribe(ids[0], seen.append)
    end = backend.subscribe(ids[1], seen.append)
    end()
    waiting = Running(lambda: backend.wait(ids, 10.0, lambda _: None))
    for task in ids:
        sender.store(task, "SUCCESS", 1)
    assert waiting.result()
    wait_for(lambda: seen)
    if backend.features.groups:
        backend.save_group("cycle", {"result": []})
        backend.delete_group("cycle")
    assert not backend.wait([new_id()], 0.05, lambda _: None)
    backend.forget(ids)
    backend.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_closing_leaves_no_descriptors_and_threads(url: str) -> None:
    cycle(url)
    before = open_descriptors(), threading.active_count()
    for _ in range(5):
        cycle(url)
    wait_for(lambda: open_descriptors() <= before[0] and threading.active_count() <= before[1])


def test_closing_leaves_no_connections(proxy: TCPProxy, url: str) -> None:
    cycle(proxy.url(url))
    assert proxy.accepted
    wait_for(lambda: proxy.connections == 0)


def test_forgotten_results_leave_nothing_in_the_system(url: str, driver: Driver) -> None:
    cycle(url)
    before = driver.hooks.objects(url)
    if before is None:
        pytest.skip("what the system stores cannot be counted")
    for _ in range(3):
        cycle(url)
    after = driver.hooks.objects(url)
    assert after is not None
    assert len(after) <= len(before), after - before
