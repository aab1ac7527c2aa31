"""A step that consumes messages of its own: queues that are no task queues, fan-out exchanges.

Celery's ``ConsumerStep`` is handed a channel and answers with kombu's consumers, which the worker's loop then drives.
Umbel has no kombu: ``get_consumers`` is handed the broker, answers with the broker's own consumers and listeners, and
the step drives each in a thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from umbel.bootsteps.step import StartStopStep
from umbel.brokers.base import Action, Broker, Consumer, Delivery, Listener, Note, Settlement
from umbel.codecs import loads
from umbel.errors import OperationalError
from umbel.message import decode_headers

logger = logging.getLogger("umbel.worker.steps")

_RECEIVE_TIMEOUT = 1.0
_AT_ONCE = 10
_RENEWAL = 1.0
_REPEAT_AFTER = 1.0
_JOIN_TIMEOUT = 5.0


class ConsumerStep(StartStopStep):
    """For ``app.steps["consumer"]``: override ``get_consumers`` and ``on_message`` or ``on_note``.

    Both are called in threads of the supervisor, so work that takes long belongs into a task that they send.
    """

    requires = ("umbel.worker.consumer:Connection",)

    consumers: Sequence[Consumer | Listener] = ()
    """What ``get_consumers`` gave; open while the step runs."""

    _ending: threading.Event
    _threads: list[threading.Thread]
    _accept: frozenset[str]

    def get_consumers(self, broker: Broker) -> Sequence[Consumer | Listener]:
        """Open what to consume: ``[broker.consumer([Queue("custom")], name="…"), broker.listen("exchange")]``.

        A consumer's ``lease`` must be 5 seconds (the default) or more: the step renews it every second.
        """
        raise NotImplementedError(f"{type(self).__name__} has no get_consumers")

    def on_message(self, body: Any, delivery: Delivery) -> Settlement | None:
        """One message of a queue, decoded; ``delivery.message`` has its headers.

        None acknowledges it. An exception is logged and dead-letters it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no on_message")

    def on_note(self, body: Any, note: Note) -> None:
        """One message of a fan-out exchange, decoded. An exception is logged."""
        raise NotImplementedError(f"{type(self).__name__} has no on_note")

    def start(self, c: Any) -> None:
        """Open the consumers and begin to receive."""
        self._accept = c.app.accept()
        self._ending = threading.Event()
        given: list[Any] = list(self.get_consumers(c.app.broker))
        for each in given:
            if not isinstance(each, (Consumer, Listener)):
                raise TypeError(f"get_consumers gave {each!r}, which the broker did not make (kombu is not used)")
        self.consumers = given
        holding = [each for each in self.consumers if isinstance(each, Consumer)]
        bodies = [(self._receive, each) for each in holding] + [(self._renew, each) for each in holding]
        listening = [(self._listen, each) for each in self.consumers if isinstance(each, Listener)]
        self._threads = [
            threading.Thread(
                target=self._guard, args=(c, body, each, self._ending), name=f"umbel-{self.alias}", daemon=True
            )
            for body, each in [*bodies, *listening]
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, c: Any) -> None:
        """End the threads, then give back what is held."""
        self._ending.set()
        for each in self.consumers:
            if isinstance(each, Consumer):
                each.interrupt()
        deadline = time.monotonic() + _JOIN_TIMEOUT
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for each in self.consumers:
            each.close()
        self.consumers, self._threads = (), []

    # -- threads --

    def _guard(self, c: Any, body: Callable[[Any, threading.Event], None], each: Any, ending: threading.Event) -> None:
        try:
            body(each, ending)
        except Exception as error:
            if not ending.is_set():
                logger.exception("step %s can receive no more", self.name)
                c.request_restart(f"step {self.alias} broke: {error}")

    def _receive(self, consumer: Consumer, ending: threading.Event) -> None:
        settlements: list[Settlement] = []
        while not ending.is_set():
            try:
                if settlements:
                    consumer.settle(settlements)
                    settlements = []
                deliveries = consumer.receive(_AT_ONCE, _RECEIVE_TIMEOUT)
            except OperationalError as error:
                self._put_off(error, ending)
                continue
            settlements = [self._settlement(each) for each in deliveries if not ending.is_set()]
        if settlements:
            try:
                consumer.settle(settlements)
            except OperationalError as error:
                logger.warning("%s: %d messages will be delivered again: %s", self.alias, len(settlements), error)

    def _settlement(self, delivery: Delivery) -> Settlement:
        message = delivery.message
        try:
            compression = decode_headers(message.headers).get("compression")
            body = loads(message.body, message.content_type, message.content_encoding, self._accept, compression)
            return self.on_message(body, delivery) or Settlement(delivery)
        except Exception as error:
            logger.exception("%s: message %s of queue %s is dead-lettered", self.alias, message.id, delivery.queue)
            return Settlement(delivery, Action.DEAD_LETTER, reason=f"{self.alias}: {type(error).__name__}: {error}")

    def _listen(self, listener: Listener, ending: threading.Event) -> None:
        while not ending.is_set():
            try:
                notes = listener.receive(_RECEIVE_TIMEOUT)
            except OperationalError as error:
                self._put_off(error, ending)
                continue
            for note in notes:
                try:
                    self.on_note(loads(note.body, note.content_type, note.content_encoding, self._accept), note)
                except Exception:
                    logger.exception("%s: a note could not be handled", self.alias)

    def _renew(self, consumer: Consumer, ending: threading.Event) -> None:
        while not ending.wait(min(_RENEWAL, consumer.proven_for / 3)):
            try:
                if not consumer.renew():
                    logger.warning("%s: the lease was lost; what was held is delivered again", self.alias)
            except OperationalError as error:
                self._put_off(error, ending)

    def _put_off(self, error: OperationalError, ending: threading.Event) -> None:
        logger.warning("%s: the broker cannot be reached, trying again: %s", self.alias, error)
        ending.wait(_REPEAT_AFTER)
