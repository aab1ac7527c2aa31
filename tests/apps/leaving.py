"""A program that runs a worker in itself, and says what is left of it: ``leaving.py POOL CONCURRENCY SIGNAL``.

Prints JSON: of the process before the worker was made, and after it has stopped, its ``threads``, ``children``, open
``files`` by what they lead to, ``shared`` memory, and health ``sockets``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from umbel.loading import find_app
from umbel.signals import worker_ready
from umbel.worker.supervisor import Worker

PATIENCE = 5.0
"""Seconds: nobody can kill the thread of `solo`, which ends with its task."""


def used() -> dict[str, Any]:
    files: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            files[os.readlink(f"/proc/self/fd/{name}").partition(":[")[0]] += 1
        except FileNotFoundError:
            continue  # the descriptor by which the directory was read
    run = Path(os.environ["UMBEL_RUNTIME_DIR"])
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": [process.pid for process in psutil.Process().children(recursive=True)],
        "files": dict(sorted(files.items())),
        "shared": [line for line in Path("/proc/self/maps").read_text().splitlines() if "umbel-" in line],
        "sockets": sorted(path.name for path in run.iterdir()) if run.exists() else [],
    }


def main(pool: str, concurrency: str, number: str) -> None:
    app = find_app("apps.lanes")
    tasks = sys.modules["apps.lanes"]
    before = used()

    def use_and_stop() -> None:
        sent = [tasks.echo.delay("y" * 100_000), tasks.echo_async.delay("y"), tasks.fail.delay("no luck")]
        for result in sent:
            result.get(timeout=30, propagate=False)
        tasks.record.delay(0.2)
        os.kill(os.getpid(), int(number))

    user = threading.Thread(target=use_and_stop, name="user")
    worker_ready.connect(lambda **_: user.start(), weak=False)
    code = Worker(app, pool=pool, concurrency=int(concurrency), hostname="leaving@here").run()
    user.join()
    app.close()
    deadline = time.monotonic() + (PATIENCE if pool == "solo" else 0)
    while (after := used()) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    print(json.dumps({"code": code, "before": before, "after": after}))


if __name__ == "__main__":
    main(*sys.argv[1:])
