"""What redis-py does with no task queue around it: the floor that task queues are compared with.

`python -m benchmarks.bare echo URL` answers each message pushed to `ping` by one pushed to `pong`.
"""

from __future__ import annotations

import sys
import time

import redis

BODY = b"x" * 700
"""Bytes of a message of Celery's protocol for a task without arguments, body and headers."""


def lpush_for(url: str, seconds: float) -> float:
    """LPUSH one message at a time for about `seconds`; messages a second."""
    client = redis.Redis.from_url(url)
    client.ping()
    count = 0
    start = now = time.perf_counter()
    while now - start < seconds:
        for _ in range(64):
            client.lpush("bare", BODY)
        count += 64
        now = time.perf_counter()
    client.delete("bare")
    return count / (now - start)


def ping_pong_for(url: str, seconds: float) -> float:
    """LPUSH to an `echo` process and BLPOP its answer, for about `seconds`; round trips a second."""
    client = redis.Redis.from_url(url, socket_timeout=None)
    client.lpush("ping", BODY)
    client.blpop(["pong"], timeout=20)
    count = 0
    start = now = time.perf_counter()
    while now - start < seconds:
        client.lpush("ping", BODY)
        client.blpop(["pong"], timeout=20)
        count += 1
        now = time.perf_counter()
    return count / (now - start)


def echo(url: str) -> None:
    client = redis.Redis.from_url(url, socket_timeout=None)
    while True:
        _, body = client.blpop(["ping"], timeout=0)
        client.lpush("pong", body)


if __name__ == "__main__":
    echo(sys.argv[2])
