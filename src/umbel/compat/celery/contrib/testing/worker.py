"""``celery.contrib.testing.worker``: workers in threads of the test process."""

from umbel.testing.celery_worker import setup_app_for_worker
from umbel.testing.threaded import WorkerInThread as TestWorkController
from umbel.testing.threaded import start_worker

__all__ = ["TestWorkController", "setup_app_for_worker", "start_worker"]
