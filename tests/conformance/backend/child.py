"""Processes of the backend suite. What they do is named by ``act``; each line they print is one JSON value."""

from __future__ import annotations

import json
import sys
from typing import Any

from conformance.waiting import end_with_parent
from umbel.backends import open_backend
from umbel.backends.base import Backend, Meta


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def store(backend: Backend, ids: list[str]) -> None:
    """Store a success for each id; its result is its number."""
    backend.store([backend.encode(Meta(task_id=id, status="SUCCESS", result=n)) for n, id in enumerate(ids)])
    say("stored")


def get(backend: Backend, ids: list[str]) -> None:
    """Print the results by id."""
    say({id: meta.result for id, meta in backend.get(ids).items()})


ACTS = {"store": store, "get": get}


def main() -> None:
    end_with_parent()
    arguments = json.loads(sys.argv[1])
    backend = open_backend(arguments.pop("url"))
    ACTS[arguments.pop("act")](backend, **arguments)
    backend.close()


if __name__ == "__main__":
    main()
