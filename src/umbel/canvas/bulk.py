"""Many calls of a group, most of them alike: their messages are made from templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.canvas.signature import Signature
from umbel.canvas.stamping import with_shared
from umbel.templates import SINGLE, Template, template_of

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.message import Message

_PLACE = frozenset({"task_id", "reply_to", "group_index"})


class Alike:
    """Makes the messages of frozen calls in one group, whose options all are under ``shared``.

    A template is made for the second call of a task with the same options in succession.
    """

    def __init__(self, app: Umbel, shared: Mapping[str, Any]) -> None:
        self._app = app
        self._shared = shared
        self._task = ""
        self._own: dict[str, Any] | None = None
        self._template: Template | None = None
        self._asked = False

    def message(self, call: Signature, args: Sequence[Any], index: int) -> Message | None:
        """The message of ``call``, the ``index``-th of the group, with ``args`` before its own; None where it must be
        made by itself. Raises what ``prepare`` raises."""
        if type(call) is not Signature:
            return None
        options = call["options"]
        own = {name: value for name, value in options.items() if name not in _PLACE}
        if own != self._own or call["task"] != self._task:
            self._own, self._task, self._template, self._asked = own, call["task"], None, False
            return None
        if not self._asked:
            self._asked = True
            self._template = self._made(own)
        if self._template is None:
            return None
        given = call["args"] if not args or call["immutable"] else (*args, *call["args"])
        place = options.get("group_index", index)
        return self._template.message(given, call["kwargs"], options["task_id"], place, options.get("reply_to"))

    def _made(self, own: Mapping[str, Any]) -> Template | None:
        options = with_shared(self._shared, own)
        if not SINGLE.isdisjoint(options):
            return None
        return template_of(self._app, self._task, options, self._app.tasks.get(self._task), grouped=True)
