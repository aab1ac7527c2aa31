"""``celery.app.control``: remote control of workers."""

from typing import Any

from umbel.compat.missing import refuse
from umbel.control import Control

__all__ = ["Control"]


def __getattr__(name: str) -> Any:
    return refuse("celery.app.control", name)
