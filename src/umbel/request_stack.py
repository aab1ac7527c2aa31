"""``task.request_stack``: the requests of one task that are open here, as Celery's tasks offer them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from umbel.current import current_request, drop_request, push_request

if TYPE_CHECKING:
    from umbel.request import Request
    from umbel.task import Task


class RequestStack:
    """A view: requests are context variables, so that each thread and coroutine sees its own."""

    def __init__(self, task: Task[..., Any]) -> None:
        self._task = task

    @property
    def stack(self) -> list[Request]:
        """The requests, the innermost last."""
        found: list[Request] = []
        request = current_request()
        while request is not None:
            if request.owner_task is self._task:
                found.append(request)
            request = request.enclosing
        return found[::-1]

    @property
    def top(self) -> Request | None:
        """The innermost request, or None."""
        return next(reversed(self.stack), None)

    def push(self, request: Request) -> None:
        """Make ``request`` the one that runs here, as of this task; ``pop`` ends it."""
        request.owner_task = self._task
        request.enclosing = current_request()
        push_request(request)

    def pop(self) -> Request | None:
        """End the innermost request of all; returns it."""
        return drop_request()

    def __len__(self) -> int:
        return len(self.stack)
