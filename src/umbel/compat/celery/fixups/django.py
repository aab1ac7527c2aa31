"""``celery.fixups.django``: applications of Django projects, recognised by the variable ``DJANGO_SETTINGS_MODULE``.

Workers set Django up before they import the tasks, give executors database connections of their own, and close those
that are no longer usable before and after each task, as Django does around a request. Tasks have ``delay_on_commit``.
What Django's system checks find is logged when a worker starts, unless ``--skip-checks`` or ``SKIP_CHECKS`` is given.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from umbel.signals import import_modules, task_postrun, task_prerun, worker_init, worker_process_init

if TYPE_CHECKING:
    from umbel.app import Umbel

VARIABLE = "DJANGO_SETTINGS_MODULE"
SKIP_CHECKS = ("CELERY_SKIP_CHECKS", "SKIP_CHECKS")
"""Variables that say, by being set, that Django's checks are not to be run."""

logger = logging.getLogger(__name__)

_UID = "umbel.compat.celery.fixups.django"


def fixup(app: Umbel) -> None:
    """Make ``app`` fit for Django where this is a project of Django's."""
    if not os.environ.get(VARIABLE) or importlib.util.find_spec("django") is None:
        return
    import_modules.connect(set_up, dispatch_uid=_UID)
    worker_init.connect(run_checks, dispatch_uid=_UID)
    worker_process_init.connect(forget_connections, dispatch_uid=_UID)
    task_prerun.connect(close_old_connections, dispatch_uid=_UID)
    task_postrun.connect(close_old_connections, dispatch_uid=_UID)


def set_up(**kwargs: Any) -> None:
    """Import Django's settings and applications, with the working directory on the path. Idempotent."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.import_module("django").setup()


def run_checks(**kwargs: Any) -> None:
    """Log what Django's system checks find, those of databases left out."""
    if any(os.environ.get(name) for name in SKIP_CHECKS):
        return
    for found in importlib.import_module("django.core.checks").run_checks():
        if not found.is_silenced():
            logger.log(found.level, "Django's checks: %s", found)


def forget_connections(**kwargs: Any) -> None:
    """In an executor: leave the parent's database connections to it."""
    for connection in importlib.import_module("django.db").connections.all(initialized_only=True):
        connection.connection = None


def close_old_connections(task: Any = None, **kwargs: Any) -> None:
    """Close database connections that broke or are too old; not for eager tasks, which run inside of something else."""
    if task is None or not task.request.is_eager:
        importlib.import_module("django.db").close_old_connections()
