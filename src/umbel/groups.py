"""The results of groups, under the name of the module that had them before :mod:`umbel.result`."""

from umbel.results.group import GroupResult
from umbel.results.many import ResultSet

__all__ = ["GroupResult", "ResultSet"]
