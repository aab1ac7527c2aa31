"""Messages handed to the broker within one deadline, their queues declared, their results expected."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from umbel.announcing import after_publish
from umbel.errors import OperationalError, PublishTimeout
from umbel.sending import sending_task
from umbel.signals import after_task_publish, task_sent

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.groups import GroupResult
    from umbel.message import Message
    from umbel.result import AsyncResult
    from umbel.task import Task

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


def publish(app: Umbel, declared: set[str], messages: Sequence[Message], timeout: float | None) -> None:
    """What ``Umbel.publish`` does. ``declared``: names of the queues that need no declaration any more."""
    limit: float = app.conf.publish_timeout if timeout is None else timeout
    deadline = time.monotonic() + limit
    backend, broker = app.backend, app.broker
    if backend.reply_to:
        ids = [message.id for message in messages]
        _persist("the result store could not be prepared", lambda left: backend.on_publish(ids, left), deadline)
    for message in messages:
        if message.queue not in declared:
            if not message.exchange or message.queue in app.queues():
                queue = app.routes.queue(message.queue)
                _persist(f"queue {queue.name!r} could not be declared", partial(broker.declare, queue), deadline)
            declared.add(message.queue)
    broker.publish(messages, max(0.001, deadline - time.monotonic()))
    if after_task_publish.receivers or task_sent.receivers:
        after_publish(messages)


def send(app: Umbel, task: Task[..., Any] | None, message: Message, timeout: float) -> str:
    """Publish one message, if ``task`` is unique only where no other call has its key; the id of the call that has it,
    otherwise its own. Raises what ``Umbel.publish`` does, DuplicateTaskError."""
    if task is not None and task.unique:
        from umbel.limits.unique import publish_unique

        return publish_unique(app, [message], timeout).get(message.id, message.id)
    app.publish([message], timeout)
    return message.id


def _persist(failure: str, call: Callable[[float], object], deadline: float) -> None:
    """``call`` with the seconds left, again and again until ``deadline`` (monotonic). Raises PublishTimeout."""
    pause = _FIRST_PAUSE
    while True:
        try:
            call(max(0.001, deadline - time.monotonic()))
            return
        except OperationalError as error:
            if time.monotonic() + pause > deadline:
                raise PublishTimeout(f"{failure} in time: {error}") from error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def adopt(sent: AsyncResult[Any] | GroupResult, options: Mapping[str, Any]) -> None:
    """Note a sent task as a child of the one that runs here, unless ``add_to_parent`` or ``trail`` is off; and whether
    it will have a result."""
    ignored = options.get("ignore_result")
    name: str | None = getattr(sent, "task_name", None)
    if ignored is None and name is not None:
        task = sent.app.registered.get(name)
        ignored = task is not None and task.ignore_result
    if ignored:
        for leaf in sent.leaves():
            leaf.ignored = True
    parent = sending_task()
    if parent is None or options.get("add_to_parent") is False:
        return
    if parent.owner is None or parent.owner.trail:
        parent.children.append(sent)
