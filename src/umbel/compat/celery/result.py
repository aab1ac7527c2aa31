"""``celery.result``: results of tasks and groups."""

from umbel.groups import GroupResult, ResultSet
from umbel.result import *  # noqa: F403
from umbel.result import __all__ as _of_results

__all__ = [*_of_results, "GroupResult", "ResultSet"]  # pyright: ignore[reportUnsupportedDunderAll]
