"""``celery.contrib.django.task``: tasks that are sent when the transaction of the database is committed."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from umbel.task import Task

__all__ = ["DjangoTask"]


class DjangoTask(Task[..., Any]):
    """The base of tasks of Django projects."""

    abstract = True

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """``delay`` once the transaction that is open now is committed, at once where none is; never after a rollback.

        There is no result, as nothing has been sent yet.
        """
        _on_commit(functools.partial(self.delay, *args, **kwargs))

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """``apply_async`` once the transaction that is open now is committed."""
        _on_commit(functools.partial(self.apply_async, *args, **kwargs))


def _on_commit(call: Any) -> None:
    importlib.import_module("django.db.transaction").on_commit(call)
