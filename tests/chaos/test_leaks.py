"""Pain 20: leaked reply queues, keys and connections. Pain 5: memory grows in parent and children."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import psutil
import pytest

from chaos.conftest import SERVERS, Place
from chaos.scene import SHORT_LEASE, Scene
from proxy import TCPProxy
from workers import wait_for

LASTING_KEYS = {"_kombu.binding.celery", "_kombu.binding_permanent.celery", "umbel.queues"}
"""What says that the queue exists."""


CONNECTIONS_COME_AND_GO = 3
"""By so many the supervisor's connections differ from moment to moment."""


def redis_keys_without_end(url: str) -> set[str]:
    import redis

    with redis.Redis.from_url(url, decode_responses=True) as server:
        return {key for key in server.scan_iter(count=1000) if server.ttl(key) == -1}


def postgresql_rows(url: str) -> dict[str, int]:
    """Of the tables that hold what is going on."""
    import psycopg

    tables = ("umbel_consumers", "umbel_messages", "umbel_publishers")
    with psycopg.connect(url) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {name}").fetchall() for name in tables]
    return {name: count for name, [(count,)] in zip(tables, counts, strict=True)}


def server_connections(place: Place) -> int:
    """How many the server itself counts for this place, but for the one that asks."""
    if place.system == "redis":
        import redis

        number = urlsplit(place.broker).path.strip("/")
        with redis.Redis.from_url(place.broker) as server:
            clients = server.client_list()
        return sum(client["db"] == number for client in clients) - 1
    import psycopg

    with psycopg.connect(place.broker) as connection:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        [(count,)] = connection.execute(sql).fetchall()
    return count - 1


def run_and_get(scene: Scene, count: int) -> None:
    for result in [scene.tasks.add.delay(number, 1) for number in range(count)]:
        result.get(timeout=15)


@pytest.mark.parametrize("system", SERVERS, indirect=True)
def test_connections_keys_and_rows_are_gone_after_use(place: Place, proxies: Callable[[str], TCPProxy]) -> None:
    proxy = proxies(place.broker)
    with place.scene(SHORT_LEASE, worker_proxy=proxy, client_proxy=proxy) as scene:
        worker = scene.start()
        run_and_get(scene, 40)
        most = proxy.connections + CONNECTIONS_COME_AND_GO
        for _ in range(4):
            proxy.cut()
            run_and_get(scene, 40)
        wait_for(lambda: proxy.connections <= most, 5, f"at most {most} connections, as before the cuts")
        assert worker.stop() == 0
        scene.tasks.app.close()
        wait_for(lambda: proxy.connections == 0, 5, "no connection is left")
        if place.system == "redis":
            assert redis_keys_without_end(place.broker) <= LASTING_KEYS
        if place.system == "postgresql":
            assert postgresql_rows(place.broker) == {"umbel_consumers": 0, "umbel_messages": 0, "umbel_publishers": 0}
        if place.system != "rabbitmq":
            wait_for(lambda: server_connections(place) == 0, 5, "the server has no connection left")


def descriptors(processes: list[psutil.Process]) -> list[int]:
    return [process.num_fds() for process in processes]


def resident(processes: list[psutil.Process]) -> list[float]:
    """MiB that each has for itself."""
    return [process.memory_full_info().uss / 2**20 for process in processes]


def run_many(scene: Scene, count: int) -> None:
    """Every twentieth fails."""
    tasks = scene.tasks
    tasks.app.send_many([tasks.fail.s("no luck") if n % 20 == 0 else tasks.add.s(n, 1) for n in range(count)])
    wait_for(scene.is_settled, 60, f"{count} tasks")


@pytest.mark.parametrize("system", ["redis"], indirect=True)
def test_memory_and_descriptors_stay_flat_over_20000_tasks(place: Place, proxies: Callable[[str], TCPProxy]) -> None:
    """The short form of pain 5: with failures and reconnects."""
    proxy = proxies(place.broker)
    with place.scene(worker_proxy=proxy) as scene:
        worker = scene.start("-l", "CRITICAL", ready=False)
        run_many(scene, 2000)
        tree = worker.tree()
        fds = descriptors(tree)
        memory: list[list[float]] = []
        for _ in range(9):
            run_many(scene, 2000)
            memory.append(resident(tree))
            proxy.cut()
        assert worker.tree() == tree
        most = [fds[0] + CONNECTIONS_COME_AND_GO, *fds[1:]]
        wait_for(lambda: all(have <= may for have, may in zip(descriptors(tree), most, strict=True)), 5, "descriptors")
        print(f"MiB of supervisor, nursery and executors: {memory}")
        for first, last in zip(zip(*memory[:3], strict=True), zip(*memory[-3:], strict=True), strict=True):
            assert min(last) - max(first) < 1.0
