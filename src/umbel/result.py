"""Results as callers see them: the names that users import, pickles carry and Celery's ``celery.result`` has."""

from umbel.joining import WouldBlock, allow_join_result, assert_will_not_block, denied_join_result
from umbel.results.base import ResultBase
from umbel.results.bound import bound as bound
from umbel.results.eager import EagerResult
from umbel.results.graph import DependencyGraph, GraphFormatter
from umbel.results.group import GroupResult
from umbel.results.many import ResultSet
from umbel.results.promises import Promise
from umbel.results.single import AsyncResult
from umbel.results.tuples import rebuilt, result_from_tuple

__all__ = [
    "AsyncResult",
    "DependencyGraph",
    "EagerResult",
    "GraphFormatter",
    "GroupResult",
    "Promise",
    "ResultBase",
    "ResultSet",
    "WouldBlock",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "rebuilt",
    "result_from_tuple",
]
