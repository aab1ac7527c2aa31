"""A process forks while its threads are inside of SQLite: the child can use it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from umbel.brokers import open_broker
from umbel.queues import Queue

FORKS = 20


def test_a_child_does_not_inherit_locked_mutexes(tmp_path: Path) -> None:
    broker = open_broker(f"sqlite:///{tmp_path / 'umbel.db'}")
    broker.declare(Queue("q"))
    stop = threading.Event()

    def use() -> None:
        while not stop.is_set():
            broker.size("q")

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(FORKS):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                broker.after_fork()
                broker.size("q")
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0, "the child hung, or failed"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        broker.close()
