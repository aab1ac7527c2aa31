"""Liveness and readiness: the command, the HTTP port, and what they say when things go wrong."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy import TCPProxy
from workers import TESTS, Fleet, fleet, wait_for


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Fleet]:
    url = f"sqlite:///{tmp_path}/umbel.db"
    with fleet(tmp_path, url, url, UMBEL_RUNTIME_DIR=str(tmp_path / "run")) as made:
        yield made


def umbel(nodes: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "umbel", *arguments],
        cwd=TESTS,
        env=os.environ | nodes.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def probe(port: int, path: str, method: str = "GET") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body else None
    finally:
        connection.close()


def test_a_worker_that_consumes_is_live_and_ready(nodes: Fleet) -> None:
    port = free_port()
    worker = nodes.start("-c", "2", "-n", "h1@%h", "--health-port", f"127.0.0.1:{port}")
    done = umbel(nodes, "health", "-n", "h1@%h")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"h1@{socket.gethostname()}: ready\n", "")
    done = umbel(nodes, "health", "-n", "h1", "--json")
    document = json.loads(done.stdout)
    assert document["pid"] == worker.process.pid and document["executors"] == 2 and document["held"] == 0
    assert (document["live"], document["ready"], document["problem"]) == (True, True, "")

    assert probe(port, "/livez")[0] == 200
    status, document = probe(port, "/readyz?verbose")
    assert status == 200 and document["ready"] is True
    assert probe(port, "/readyz", "HEAD") == (200, None)
    assert probe(port, "/")[0] == 404
    assert probe(port, "/livez", "POST")[0] == 405

    worker.stop()
    done = umbel(nodes, "health", "-n", "h1@%h")
    assert done.returncode == 1 and "not live: no such worker runs here" in done.stdout
    assert not list((nodes.directory / "run").iterdir())


def test_one_that_shuts_down_is_live_but_not_ready(nodes: Fleet) -> None:
    worker = nodes.start("-c", "1", "-n", "h2@%h")
    umbel(nodes, "-A", "apps.ledger", "call", "apps.ledger.record", "60")
    wait_for(lambda: len(nodes.ledger.running()) == 1)
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: "warm shutdown" in worker.output())
    done = umbel(nodes, "health", "-n", "h2@%h")
    assert done.returncode == 1 and done.stdout.endswith("live, not ready: it is shutting down\n")
    assert umbel(nodes, "health", "-n", "h2@%h", "--live").returncode == 0
    assert umbel(nodes, "health", "-n", "h2@%h", "--ready").returncode == 1


def test_one_that_hangs_or_was_killed_is_not_live(nodes: Fleet) -> None:
    worker = nodes.start("-c", "1", "-n", "h3@%h")
    worker.send_signal(signal.SIGSTOP)
    done = umbel(nodes, "health", "-n", "h3@%h", "--live", "--timeout", "0.5")
    worker.send_signal(signal.SIGCONT)
    assert done.returncode == 1 and "not live: no answer within 0.5 s" in done.stdout
    worker.kill()
    done = umbel(nodes, "health", "-n", "h3@%h")
    assert done.returncode == 1 and "no such worker runs here" in done.stdout
    nodes.start("-c", "1", "-n", "h3@%h")
    assert umbel(nodes, "health", "-n", "h3@%h").returncode == 0, "the socket left behind is replaced"


def test_one_without_its_broker_is_not_ready_and_later_not_live(
    tmp_path: Path, fresh_url: Callable[[str], str]
) -> None:
    url = fresh_url("redis")
    with TCPProxy.to(url) as proxy, fleet(tmp_path, proxy.url(url), proxy.url(url)) as nodes:
        port = free_port()
        nodes.start(
            *("-c", "1", "--health-port", f"127.0.0.1:{port}"),
            environment={
                "UMBEL_WORKER_LEASE": "1",
                "UMBEL_WORKER_LEASE_RENEWAL": "0.2",
                "UMBEL_WORKER_STALL_TIMEOUT": "4",
            },
        )
        assert probe(port, "/readyz")[0] == 200
        proxy.refuse()
        proxy.cut()
        wait_for(lambda: probe(port, "/readyz")[0] == 503, 10)
        assert probe(port, "/livez")[0] == 200
        wait_for(lambda: probe(port, "/livez")[0] == 503, 15)
        assert "the broker has not answered for" in probe(port, "/livez")[1]["problem"]
        proxy.heal()
        wait_for(lambda: probe(port, "/readyz")[0] == 200, 20)


def test_a_port_that_is_taken_is_said(nodes: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = umbel(nodes, "-A", "apps.ledger", "worker", "-q", "-c", "1", "--health-port", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert "address already in use" in done.stderr.splitlines()[-1]


def test_rubbish_on_the_port_harms_nobody(nodes: Fleet) -> None:
    port = free_port()
    worker = nodes.start("-c", "1", "--health-port", f"127.0.0.1:{port}")
    for rubbish in (b"", b"\r\n\r\n", b"GET\r\n\r\n", b"\xff" * 20_000, b"GET / HTTP/9.9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            started = time.monotonic()
            try:
                connection.recv(1000)
            except ConnectionResetError:
                pass
            assert time.monotonic() - started < 3
    assert probe(port, "/livez")[0] == 200
    assert "ERROR" not in worker.output()
