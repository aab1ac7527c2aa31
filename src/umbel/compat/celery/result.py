"""``celery.result``: results of tasks and groups."""

from umbel.groups import GroupResult, ResultSet
from umbel.result import (
    AsyncResult,
    EagerResult,
    allow_join_result,
    assert_will_not_block,
    denied_join_result,
    result_from_tuple,
)

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "result_from_tuple",
]
