"""An exception of a task, made into text: live tracebacks keep every local variable of a task in memory."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from umbel.errors import TaskError

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class ExceptionInfo:
    """What the handlers ``on_failure``, ``on_retry`` and ``after_return`` get as ``einfo``.

    ``exception``, its ``type``, and ``traceback`` as text; ``str(einfo)`` is the text.
    """

    __slots__ = ("exception", "traceback", "type")

    def __init__(self, exception: BaseException, text: str) -> None:
        self.exception = exception
        self.type = type(exception)
        self.traceback = text

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {self.exception!r}>"


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it, from the task's own function on; what no encoding takes is escaped."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_HERE):
        tb = tb.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, tb or error.__traceback__))
    except Exception as failure:
        return f"{type(error).__qualname__}: (its traceback cannot be shown: {failure!r})\n"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def error_text(error: BaseException) -> str:
    """``repr(error)``, also for exceptions whose own fails; at most 1,000 characters."""
    try:
        text = repr(error)
    except Exception as failure:
        text = f"<{type(error).__qualname__}, whose repr raised {type(failure).__qualname__}>"
    return text if len(text) <= 1000 else text[:997] + "..."


def release(error: BaseException | None) -> None:
    """Drop the traceback of an exception, and of those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        tb: TracebackType | None = error.__traceback__
        error.__traceback__ = None
        if tb is not None:
            traceback.clear_frames(tb)
        error = error.__cause__ or error.__context__


def storable(error: BaseException) -> BaseException:
    """What is stored of ``error``: whoever asks for the result must not be ended by it, so SystemExit,
    KeyboardInterrupt and their like become a TaskError that names them."""
    if isinstance(error, Exception):
        return error
    if isinstance(error, SystemExit):
        return TaskError(f"the task called sys.exit({error.code!r}); a task cannot end its worker")
    return TaskError(f"the task raised {error_text(error)}; a task cannot end its worker")
