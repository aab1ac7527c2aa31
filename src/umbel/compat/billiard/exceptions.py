"""``billiard.exceptions``: what ends a task, under the names that Celery's workers use."""

from umbel.errors import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded, WorkerLostError

__all__ = ["SoftTimeLimitExceeded", "Terminated", "TimeLimitExceeded", "WorkerLostError"]
