"""``celery.utils.threads``: threads that end the program when they crash, and values of a thread's own."""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from umbel.compat.celery.local import Proxy

__all__ = ["Local", "LocalManager", "LocalStack", "bgThread", "default_socket_timeout", "get_ident"]

get_ident = threading.get_ident


@contextmanager
def default_socket_timeout(timeout: float | None) -> Generator[None]:
    """New sockets have this time-out, in seconds, meanwhile."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


class bgThread(threading.Thread):
    """A thread that calls ``body`` again and again until ``stop``; what it raises ends the process."""

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__()
        self._shutdown_asked = threading.Event()
        self._has_ended = threading.Event()
        self.daemon = True
        self.name = name or type(self).__name__

    def body(self) -> None:
        """Override: one round of work."""
        raise NotImplementedError

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Called with what to say when ``body`` has raised."""
        print(msg.format(*fmt), file=sys.stderr)  # noqa: T201 - the log may be what has crashed
        traceback.print_exc(None, sys.stderr)

    def run(self) -> None:
        try:
            while not self._shutdown_asked.is_set():
                try:
                    self.body()
                except Exception as error:
                    self.on_crash("{0!r} crashed: {1!r}", self.name, error)
                    sys.stderr.flush()
                    os._exit(1)
        finally:
            self._has_ended.set()

    def stop(self) -> None:
        """Ask it to end after this round, and wait until it has."""
        self._shutdown_asked.set()
        self._has_ended.wait()
        if self.is_alive():
            self.join(threading.TIMEOUT_MAX)


class Local:
    """Attributes that each thread, greenlet or coroutine has for itself."""

    def __init__(self) -> None:
        object.__setattr__(self, "_values", ContextVar[dict[str, Any]]("umbel_local"))

    def _own(self) -> dict[str, Any]:
        return dict(object.__getattribute__(self, "_values").get({}))

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._own().items())

    def __call__(self, proxy: str) -> Proxy:
        """A proxy for the attribute of that name."""
        return Proxy(self, name=proxy)

    def __release_local__(self) -> None:
        object.__getattribute__(self, "_values").set({})

    def __getattr__(self, name: str) -> Any:
        try:
            return self._own()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        object.__getattribute__(self, "_values").set({**self._own(), name: value})

    def __delattr__(self, name: str) -> None:
        own = self._own()
        if name not in own:
            raise AttributeError(name)
        del own[name]
        object.__getattribute__(self, "_values").set(own)


class LocalStack:
    """A stack that each thread, greenlet or coroutine has for itself."""

    def __init__(self) -> None:
        self._items: ContextVar[tuple[Any, ...]] = ContextVar("umbel_local_stack", default=())

    def push(self, obj: Any) -> list[Any]:
        """Put ``obj`` on top; the whole stack."""
        self._items.set((*self._items.get(), obj))
        return self.stack

    def pop(self) -> Any:
        """Take off what is on top; None of an empty stack."""
        items = self._items.get()
        if not items:
            return None
        self._items.set(items[:-1])
        return items[-1]

    def __len__(self) -> int:
        return len(self._items.get())

    @property
    def stack(self) -> list[Any]:
        return list(self._items.get())

    @property
    def top(self) -> Any:
        """What is on top, None of an empty stack."""
        items = self._items.get()
        return items[-1] if items else None

    def __call__(self) -> Proxy:
        """A proxy for what is on top."""
        return Proxy(lambda: self.top)

    def __release_local__(self) -> None:
        self._items.set(())


class LocalManager:
    """Empties several of them at once."""

    def __init__(self, locals: Any = None, ident_func: Callable[[], Any] | None = None) -> None:
        several = isinstance(locals, Iterable) and not isinstance(locals, Local)
        self.locals: list[Any] = list(cast("Iterable[Any]", locals)) if several else []
        if locals is not None and not several:
            self.locals.append(locals)
        self.ident_func = ident_func or get_ident

    def get_ident(self) -> Any:
        """What tells the present thread from others."""
        return self.ident_func()

    def cleanup(self) -> None:
        """Empty them for the present thread, greenlet or coroutine."""
        for local in self.locals:
            local.__release_local__()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.locals)}>"
