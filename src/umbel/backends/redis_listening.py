"""Results for ``await``: one thread and one connection per backend object listen for all of them.

The thread starts with the first subscription and ends some seconds after the last. It connects again by itself for
as long as somebody is subscribed.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from umbel.backends.base import Meta
from umbel.brokers.redis.link import NOTHING, Link, PushNotification, pack
from umbel.brokers.redis.server import Server
from umbel.errors import UmbelError

log = logging.getLogger(__name__)

_LINGER = 5.0
_ASK_EVERY = 30.0
_LONGEST_PAUSE = 1.0

OnMeta = Callable[[Meta], object]


class SharedListener:
    """Calls back once for each subscription, when its result is ready."""

    def __init__(self, server: Server, read: Callable[[bytes], Meta]) -> None:
        self._server = server
        self._decode = read
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[bytes, list[OnMeta]] = {}
        self._new: list[bytes] = []
        self._thread: threading.Thread | None = None
        self._ear: socket.socket | None = None
        self._voice: socket.socket | None = None
        self._stopping = False

    def subscribe(self, key: str, on_meta: OnMeta) -> Callable[[], None]:
        """See ``Backend.subscribe``; ``key`` is that of the result."""
        name = key.encode()
        with self._lock:
            self._callbacks.setdefault(name, []).append(on_meta)
            self._new.append(name)
            if self._thread is None:
                self._ear, self._voice = socket.socketpair()
                self._ear.setblocking(False)
                self._voice.setblocking(False)
                self._stopping = False
                self._thread = threading.Thread(
                    target=self._run, args=(self._ear,), name="umbel-redis-results", daemon=True
                )
                self._thread.start()
            else:
                self._wake()

        def end() -> None:
            with self._lock:
                waiting = self._callbacks.get(name, [])
                if on_meta in waiting:
                    waiting.remove(on_meta)
                    if not waiting:
                        del self._callbacks[name]
                        self._new.append(name)
                        self._wake()

        return end

    def _wake(self) -> None:
        if self._voice is not None:
            with contextlib.suppress(OSError):
                self._voice.send(b"!")

    # -- the thread --

    def _run(self, ear: socket.socket) -> None:
        pause = 0.02
        while not self._finished():
            started = time.monotonic()
            try:
                link = Link(self._server, self._server.connect_timeout)
                with contextlib.closing(link):
                    self._listen(link, ear)
            except UmbelError as error:
                log.warning("listening for results broke off, trying again: %s", error)
            if self._finished():
                break
            pause = 0.02 if time.monotonic() - started > _LONGEST_PAUSE else min(_LONGEST_PAUSE, 2 * pause)
            select.select([], [], [], pause)

    def _finished(self) -> bool:
        """Whether nobody is subscribed any more; then this thread is no longer the listener."""
        with self._lock:
            if self._callbacks and not self._stopping:
                return False
            for end in (self._ear, self._voice):
                if end is not None:
                    end.close()
            self._thread = self._ear = self._voice = None
            self._new.clear()
            return True

    def _listen(self, link: Link, ear: socket.socket) -> None:
        """Listen until there is nothing to listen for, or the connection breaks."""
        with self._lock:
            self._new = list(self._callbacks)
        asked: deque[tuple[bytes, ...]] = deque()
        poller = select.poll()
        poller.register(link, select.POLLIN)
        poller.register(ear, select.POLLIN)
        while not self._stopping:
            self._send_news(link, asked)
            events = poller.poll((_ASK_EVERY if self._callbacks else _LINGER) * 1000)
            with contextlib.suppress(BlockingIOError):
                ear.recv(4096)
            while (reply := link.poll(0)) is not NOTHING:
                self._take_reply(reply, asked)
            if not events:
                if not self._callbacks:
                    return
                if asked:
                    log.warning("no answer from %s within %g s", self._server.shown, _ASK_EVERY)
                    return
                keys = tuple(self._callbacks)
                link.send(pack("MGET", *keys))
                asked.append(keys)

    def _send_news(self, link: Link, asked: deque[tuple[bytes, ...]]) -> None:
        with self._lock:
            new, self._new = dict.fromkeys(self._new), []
            begun = tuple(key for key in new if key in self._callbacks)
            ended = tuple(key for key in new if key not in self._callbacks)
        if begun:
            link.send(pack("SUBSCRIBE", *begun) + pack("MGET", *begun))
            asked.append(begun)
        if ended:
            link.send(pack("UNSUBSCRIBE", *ended))

    def _take_reply(self, reply: object, asked: deque[tuple[bytes, ...]]) -> None:
        if isinstance(reply, PushNotification):
            push = cast("list[bytes]", reply)
            if push[0] == b"message":
                self._note(push[1], push[2])
        elif isinstance(reply, list):
            for key, payload in zip(asked.popleft(), cast("list[bytes | None]", reply), strict=True):
                if payload is not None:
                    self._note(key, payload)
        else:
            raise UmbelError(f"unexpected answer from {self._server.shown}: {reply!r:.200}")

    def _note(self, key: bytes, payload: bytes) -> None:
        try:
            meta = self._decode(payload)
        except UmbelError as error:
            log.warning("a result cannot be read: %s", error)
            return
        if not meta.ready:
            return
        with self._lock:
            callbacks = self._callbacks.pop(key, [])
            if callbacks:
                self._new.append(key)
        for on_meta in callbacks:
            try:
                on_meta(meta)
            except Exception:
                log.exception("a callback for the result of %s failed", meta.task_id)

    # -- life --

    def close(self) -> None:
        """End all subscriptions and the thread."""
        with self._lock:
            thread = self._thread
            self._stopping = True
            self._callbacks.clear()
            self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._server.connect_timeout + 1.0)

    def forget(self) -> None:
        """In a forked child: the thread is the parent's."""
        for end in (self._ear, self._voice):
            if end is not None:
                end.close()
        self._reset()
