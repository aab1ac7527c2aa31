"""The task by which a worker in a test is asked whether it works, for every application of the process."""

from __future__ import annotations

from umbel.registry import shared_task


@shared_task(name="celery.ping")
def ping() -> str:
    """Answers ``pong``."""
    return "pong"
