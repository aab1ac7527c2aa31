"""What all composed signatures share: how they are sent, and how they are copied."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from umbel.canvas.checking import check, several
from umbel.canvas.signature import P, R, Signature
from umbel.message import Message
from umbel.sending import check_options, publish_deadline

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.result import AsyncResult

MADE_AT_FIRST = 20_000
"""Messages that are made before any is sent, so that one that cannot be made leaves nothing sent."""

MADE_AT_ONCE = 2000
"""Messages of larger canvases that are made before they are sent, so that these take little memory."""


class Canvas(Signature[P, R]):
    """A signature that is several calls."""

    @abstractmethod
    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """A copy of it and of all calls in it. Arguments go to those calls that run first."""

    @abstractmethod
    def emit(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> Iterator[Message]: ...

    def messages(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> tuple[list[Message], Any]:
        copy, result = self._frozen(app, (), None, options)
        return list(copy.emit(app, args)), result

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Send it, with further arguments and options; its result.

        Raises InvalidCanvas for what could not run, and what sending a task raises.
        """
        app = self.app
        if app.conf.task_always_eager:
            check(app, self)
            return self.apply(args or (), kwargs, **options)
        copy, result = self._frozen(app, args or (), kwargs, options)
        deadline = publish_deadline(app, options)
        messages = copy.emit(app)
        part = list(islice(messages, MADE_AT_FIRST))
        while part:
            app.publish(part, deadline)
            part = list(islice(messages, MADE_AT_ONCE))
        return result

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """As ``apply_async``; the event loop is not blocked meanwhile."""
        from umbel.loops import off_the_loop

        return await off_the_loop(partial(self.apply_async, args, kwargs, **options))

    def _frozen(
        self, app: Umbel, args: Sequence[Any], kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> tuple[Self, Any]:
        check(app, self)
        copy = self.clone(args, kwargs)
        given = {name: value for name, value in options.items() if name not in OF_SENDING}
        add_to_parent = given.pop("add_to_parent", True)
        check_options(given)
        task_id = given.pop("task_id", None)
        copy.take_options(given)
        result = copy.freeze(task_id)
        app.adopt(result, {"add_to_parent": add_to_parent})
        return copy, result

    def take_options(self, options: dict[str, Any]) -> None:
        """Take options that were given when it is sent; links go where they belong."""
        for callback in several(options.pop("link", None)):
            self.link(callback)
        for errback in several(options.pop("link_error", None)):
            self.link_error(errback)
        self.options.update({name: value for name, value in options.items() if value is not None})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.apply_async(args, kwargs)

    def __bool__(self) -> bool:
        return True


OF_SENDING = frozenset(
    {"producer", "connection", "publisher", "router", "result_cls", "task_type", "retry", "retry_policy", "timeout"}
    | {"confirm_timeout", "declare", "mandatory", "immediate"}
)
"""Options of how messages are sent, which are not options of the calls."""

OWN_OPTIONS = frozenset({"task_id", "root_id", "parent_id", "group_id", "group_index", "chord", "reply_to", "chain"})


def shared_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a canvas that hold for its calls where they have none of their own."""
    return {name: value for name, value in options.items() if name not in OWN_OPTIONS}
