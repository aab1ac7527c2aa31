"""``celery.contrib.abortable``: tasks that can be asked to stop."""

from umbel.abortable import ABORTED, AbortableAsyncResult, AbortableTask

__all__ = ["ABORTED", "AbortableAsyncResult", "AbortableTask"]
