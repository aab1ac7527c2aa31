"""``celery.worker.components``: steps of the worker, for ``requires``."""

from typing import Any

from umbel.compat.missing import refuse
from umbel.worker.components import Consumer, Pool, Timer

__all__ = ["Consumer", "Pool", "Timer"]


def __getattr__(name: str) -> Any:
    return refuse("celery.worker.components", name)
