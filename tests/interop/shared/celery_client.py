"""A real Celery client that does what it reads, one JSON object a line: ``{"do": "send" | "get" | …}``."""

import datetime
import json
import sys
from typing import Any

from celery import signature
from celery.exceptions import TimeoutError
from shared.canvases import build
from shared.for_celery import app


def send(task: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any], delay: bool) -> dict[str, Any]:
    for name in ("link", "link_error"):
        if name in options:
            options[name] = [
                signature({"args": [], "kwargs": {}, "options": {}, **call}, app=app) for call in options[name]
            ]
    for name in ("eta", "expires"):
        if isinstance(options.get(name), str):
            options[name] = datetime.datetime.fromisoformat(options[name])
    if delay:
        return {"id": app.tasks[task].delay(*args, **kwargs).id}
    if options.pop("by_name", False):
        return {"id": app.send_task(task, args, kwargs, **options).id}
    return {"id": app.tasks[task].apply_async(args, kwargs, **options).id}


def get(task_id: str, timeout: float) -> dict[str, Any]:
    result = app.AsyncResult(task_id)
    try:
        value = result.get(timeout=timeout)
    except TimeoutError as error:
        return {"state": result.state, "timeout": str(error)}
    except BaseException as error:
        cls = type(error)
        return {
            "state": result.state,
            "exc_type": cls.__name__,
            "exc_module": cls.__module__,
            "args": [repr(value) for value in error.args],
            "traceback": result.traceback,
        }
    return {"state": result.state, "value": value if json_able(value) else repr(value), "children": children(result)}


def children(result: Any) -> list[str]:
    return [child.id for child in result.children or []]


def json_able(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def count(number: int) -> dict[str, Any]:
    with app.producer_or_acquire() as producer:
        return {"ids": [app.tasks["shared.add"].apply_async((n, 1), producer=producer).id for n in range(number)]}


def chain(length: int) -> dict[str, Any]:
    from celery import chain as make

    add = app.tasks["shared.add"]
    return {"id": make(add.s(0, 1), *(add.s(1) for _ in range(length - 1))).apply_async().id}


def group(size: int) -> dict[str, Any]:
    from celery import group as make

    add = app.tasks["shared.add"]
    return {"values": make(add.s(number, 1) for number in range(size)).apply_async().get(timeout=20)}


def canvas(spec: Any, options: dict[str, Any]) -> dict[str, Any]:
    import celery

    return {"id": build(app, celery, spec, **options).apply_async().id}


def revoke(task_id: str) -> dict[str, Any]:
    app.control.revoke(task_id)
    return {"id": task_id}


def revoke_by_stamped_headers(headers: dict[str, Any]) -> dict[str, Any]:
    return {"replies": app.control.revoke_by_stamped_headers(headers, reply=True, limit=1, timeout=20)}


COMMANDS = {
    "send": send,
    "get": get,
    "count": count,
    "chain": chain,
    "group": group,
    "canvas": canvas,
    "revoke": revoke,
    "revoke_by_stamped_headers": revoke_by_stamped_headers,
}

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = COMMANDS[request.pop("do")](**request)
    except Exception as error:
        answer = {"error": repr(error)}
    print(json.dumps(answer), flush=True)
