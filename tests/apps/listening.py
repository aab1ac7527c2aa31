"""An application that is connected to every signal, and writes a line of JSON for each that is sent.

``{"signal", "pid", "sender", "at", ...}``: what of the arguments can be told in JSON; ``SIGNALS_FILE`` is the file.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from typing import Any

from umbel import Queue, Umbel, signals
from umbel.signals import Signal

app = Umbel("listening", broker=os.environ.get("LEDGER_BROKER"), backend=os.environ.get("LEDGER_BACKEND"))


def record(signal: Signal, sender: Any = None, **named: Any) -> None:
    line: dict[str, Any] = {
        "signal": signal.name,
        "pid": os.getpid(),
        "at": time.time(),
        "sender": getattr(sender, "name", None) or getattr(sender, "hostname", None) or str(sender),
        "arguments": sorted(named),
    }
    request = named.get("request")
    headers = named.get("headers")
    line["id"] = named.get("task_id") or getattr(request, "id", None) or (headers or {}).get("id") or named.get("id")
    for name in ("state", "sig", "how", "exitcode", "name", "expired", "terminated", "signum", "loglevel"):
        if name in named:
            line[name] = named[name]
    if request is not None and signal is signals.task_received:
        line["request"] = [request.name, request.args, request.kwargs]
    for name in ("exception", "exc"):
        if name in named:
            line[name] = repr(named[name])
    data = json.dumps(line).encode() + b"\n"
    fd = os.open(os.environ["SIGNALS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    if os.environ.get("SIGNALS_FAIL"):
        raise RuntimeError(f"receiver of {signal.name}")


@signals.celeryd_init.connect
def configure(conf: Any, **kwargs: Any) -> None:
    if "SIGNALS_CONCURRENCY" in os.environ:
        conf.worker_concurrency = int(os.environ["SIGNALS_CONCURRENCY"])


@signals.celeryd_after_setup.connect
def add_queue_of_its_own(sender: str, instance: Any, **kwargs: Any) -> None:
    instance.queues.append(Queue(f"{sender}.dq"))


without = set(os.environ.get("SIGNALS_WITHOUT", "").split(","))
for found in [each for each in vars(signals).values() if isinstance(each, Signal)]:
    if found.name not in without:
        found.connect(record)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def rest(seconds: float) -> None:
    time.sleep(seconds)


@app.task
async def add_later(x: int, y: int) -> int:
    return x + y


@app.task
def fail() -> None:
    raise ValueError("no luck")


@app.task(bind=True, max_retries=1, default_retry_delay=0)
def again(self: Any) -> int:
    if not self.request.retries:
        raise self.retry()
    return self.request.retries


@app.task(reject_on_worker_lost=False)
def crash() -> None:
    ctypes.string_at(0)
