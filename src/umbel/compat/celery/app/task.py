"""``celery.app.task``: the base of tasks, and what a running one knows of itself."""

from umbel.request import Request as Context
from umbel.task import Task

__all__ = ["Context", "Task"]
