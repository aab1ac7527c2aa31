"""A real Celery that keeps a group of results (``keep``), or finds one again (``restore ID``); says so as JSON."""

import json
import sys
from typing import Any

from shared.for_celery import app


def keep() -> dict[str, Any]:
    ids = ["celery-1", "celery-2"]
    for each in ids:
        app.backend.store_result(each, each.upper(), "SUCCESS")
    group = app.GroupResult("by-celery", [app.AsyncResult(each) for each in ids], parent=app.AsyncResult("before"))
    group.save()
    return {"id": group.id, "tuple": group.as_tuple()}


def restore(group_id: str) -> dict[str, Any]:
    group = app.GroupResult.restore(group_id)
    return {"ids": [each.id for each in group], "parent": group.parent.id, "values": group.get(timeout=20)}


if __name__ == "__main__":
    print(json.dumps({"keep": keep, "restore": restore}[sys.argv[1]](*sys.argv[2:])))
