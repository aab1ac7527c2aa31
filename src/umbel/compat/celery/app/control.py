"""``celery.app.control``: remote control of workers."""

from umbel.control import Control

__all__ = ["Control"]
