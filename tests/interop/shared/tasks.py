"""The same tasks for a real Celery and for Umbel. Each run appends ``<kind> <task id>`` to the ledger."""

from __future__ import annotations

import os
import time
from typing import Any


class OwnError(Exception):
    """An error of the application, which both sides can import."""


def define(app: Any, kind: str) -> Any:
    """Register the tasks in ``app``, a Celery or an Umbel; ``kind`` goes to the ledger."""

    def note(task_id: str) -> None:
        fd = os.open(os.environ["LEDGER_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(fd, f"{kind} {task_id}\n".encode())
        finally:
            os.close(fd)

    @app.task(bind=True, name="shared.add")
    def add(self: Any, x: Any, y: Any) -> Any:
        note(self.request.id)
        return x + y

    @app.task(bind=True, name="shared.echo")
    def echo(self: Any, *args: Any, **kwargs: Any) -> Any:
        note(self.request.id)
        return [list(args), kwargs]

    @app.task(bind=True, name="shared.total")
    def total(self: Any, numbers: list[int]) -> int:
        note(self.request.id)
        return sum(numbers)

    @app.task(bind=True, name="shared.look")
    def look(self: Any) -> dict[str, Any]:
        """What a task sees of its message."""
        note(self.request.id)
        request = self.request
        info = request.delivery_info or {}
        return {
            "kind": kind,
            "id": request.id,
            "root_id": request.root_id,
            "parent_id": request.parent_id,
            "correlation_id": request.correlation_id,
            "eta": str(request.eta) if request.eta else None,
            "expires": str(request.expires) if request.expires else None,
            "retries": request.retries,
            "timelimit": list(request.timelimit or (None, None)),
            "headers": {key: value for key, value in (request.headers or {}).items() if key.startswith("x-")},
            "priority": info.get("priority"),
            "routing_key": info.get("routing_key"),
            "argsrepr": request.argsrepr,
        }

    @app.task(bind=True, name="shared.throw")
    def throw(self: Any, what: str) -> None:
        note(self.request.id)
        if what == "own":
            raise OwnError("of the application", 7)
        if what == "key":
            raise KeyError("k")
        if what == "local":
            raise type("Local", (Exception,), {"__module__": "known.nowhere"})("far", 1)
        raise ValueError("no luck")

    @app.task(bind=True, name="shared.retry_until", max_retries=5)
    def retry_until(self: Any, attempt: int, delay: float = 0.1) -> int:
        note(self.request.id)
        if self.request.retries < attempt:
            raise self.retry(countdown=delay)
        return self.request.retries

    @app.task(bind=True, name="shared.give_up", max_retries=1)
    def give_up(self: Any) -> None:
        note(self.request.id)
        raise self.retry(countdown=0.1)

    @app.task(bind=True, name="shared.wait")
    def wait(self: Any, seconds: float) -> str:
        time.sleep(seconds)
        note(self.request.id)
        return self.request.id

    @app.task(bind=True, name="shared.failed", ignore_result=True)
    def failed(self: Any, failed_id: Any, *args: Any) -> None:
        """An error callback: notes which task failed."""
        note(f"{self.request.id or '-'} after {getattr(failed_id, 'id', failed_id)}")

    return app
