"""``celery.utils``: what is used most of the modules below."""

from __future__ import annotations

import functools

from umbel.compat.celery.utils.functional import chunks, memoize, noop
from umbel.compat.celery.utils.imports import gen_task_name, import_from_cwd, instantiate, qualname, symbol_by_name
from umbel.compat.celery.utils.log import LOG_LEVELS
from umbel.compat.celery.utils.nodenames import nodename, nodesplit, worker_direct
from umbel.message import new_id as uuid

cached_property = functools.cached_property
gen_unique_id = uuid
get_cls_by_name = symbol_by_name
get_full_cls_name = qualname

__all__ = [
    "LOG_LEVELS",
    "cached_property",
    "chunks",
    "gen_task_name",
    "gen_unique_id",
    "get_cls_by_name",
    "get_full_cls_name",
    "import_from_cwd",
    "instantiate",
    "memoize",
    "nodename",
    "nodesplit",
    "noop",
    "uuid",
    "worker_direct",
]
