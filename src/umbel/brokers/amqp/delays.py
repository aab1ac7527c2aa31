"""Delayed delivery inside RabbitMQ: Celery's topology for whole seconds, and one queue before it for the fraction.

Celery's part: 28 queues ``celery_delayed_<n>`` hold a message for 2^n seconds each; the routing key begins with the
delay in binary digits, one word each, which decide where it stops over; the last exchange, ``celery_delayed_delivery``,
takes it to its queue. A queue is bound there by 28 words and its name, so that a queue ``b`` does not take what is sent
to ``a.b``.

Umbel's part: the fraction is waited first, in ``umbel_delayed_ms_<n>``; from there, or at once where there is none, the
exchange ``umbel_delayed`` leads to the queue of the first level at which the message stops over, or past all of them
when no whole seconds are left. Celery sends into the exchange of the uppermost level, from where it takes 28 exchanges
to get there, each of which matches the whole key: some milliseconds of the server for every message, 300 a second.
The fraction is rounded up to 50 ms, so that nothing arrives early, so there are 19 such queues. A delayed message for
an exchange other than the default one ends in a relay, a queue that passes it on at once with its own routing key.

They are declared when a consumer begins, as Celery's workers do, or else when the first message needs them; that takes
about a second once in the life of a virtual host. They are quorum queues, as Celery's are, which hand on a message
only when the next has it; the option ``native_delayed_delivery_queue_type`` makes them classic ones, which lose what
falls due while the server boots. Quorum queues keep that, and try again after the server's setting
``dead_letter_worker_publisher_confirm_timeout``: three minutes by default, and worth lowering to seconds.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from typing import Any

from pika import spec

from umbel.brokers.amqp.channels import Channel
from umbel.brokers.amqp.posts import DELAYED_DELIVERY
from umbel.brokers.amqp.topology import (
    QUEUE_TYPE,
    Topology,
    bind_exchange,
    bind_queue,
    declare_exchange,
    declare_queue,
    has_exchange,
    is_quorum,
)
from umbel.queues import Exchange, Queue

LEVELS = 28
STEP = 50
LONGEST = 2**LEVELS - 1
ANY_DELAY = "*." * LEVELS
NO_SECONDS = "0." * LEVELS + "#"
WAY_IN = "umbel_delayed"
ALL_THERE = "umbel_delayed_ready"
"""An exchange that is declared when everything else is there: who only publishes asks for this one first."""

_LEVELS, _FRACTIONS = "levels", "fractions"
LEVEL_QUEUES = [f"celery_delayed_{level}" for level in reversed(range(LEVELS))]
FRACTION_QUEUES = [f"umbel_delayed_ms_{n}" for n in range(STEP, 1000, STEP)]


def split_delay(delay: float) -> tuple[int, int]:
    """Whole seconds and milliseconds (a multiple of ``STEP``) that make up ``delay``, rounded up."""
    steps = max(0, math.ceil(delay * 1000 / STEP - 1e-6))
    seconds, rest = divmod(steps, 1000 // STEP)
    return (LONGEST, 0) if seconds > LONGEST else (seconds, rest * STEP)


def delayed_key(seconds: int, routing_key: str) -> str:
    """Celery's routing key of a delayed message: 28 binary digits as words, then the key it is to arrive with."""
    return ".".join(f"{seconds:0{LEVELS}b}") + "." + routing_key


def level_name(level: int) -> str:
    return f"celery_delayed_{level}"


def level_arguments(level: int, queue_type: str) -> dict[str, Any]:
    """The arguments of a level's queue, as Celery declares it."""
    follower = level_name(level - 1) if level else DELAYED_DELIVERY
    return _holding(queue_type, 2**level * 1000, follower)


def _holding(queue_type: str, milliseconds: int, follower: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        QUEUE_TYPE: queue_type,
        "x-overflow": "reject-publish",
        "x-message-ttl": milliseconds,
        "x-dead-letter-exchange": follower,
    }
    if queue_type == "quorum":
        arguments["x-dead-letter-strategy"] = "at-least-once"
    return arguments


class Delays:
    """The delay queues, and what of them this process has declared."""

    def __init__(self, channel: Callable[..., Any], topology: Topology, queue_type: str) -> None:
        self._channel = channel
        self._topology = topology
        self._type = queue_type
        self._guard = threading.Lock()
        self._done: set[str] = set()

    def route(self, delay: float, queue: str, exchange: str = "", routing_key: str = "") -> tuple[str, str]:
        """Exchange and routing key by which a message reaches ``queue``, or ``exchange``, after ``delay`` seconds.

        Declares what is missing. Raises BrokerError, OperationalError.
        """
        target = queue
        if exchange:
            target = self._relay(exchange, routing_key)
        else:
            self._once(f"queue {queue}", lambda channel: self._bind(channel, queue))
        seconds, milliseconds = split_delay(delay)
        key = delayed_key(seconds, target)
        if (seconds and _LEVELS not in self._done) or (milliseconds and _FRACTIONS not in self._done):
            self._look()
        if seconds:
            self._once(_LEVELS, self._declare_levels)
        if not milliseconds:
            return WAY_IN, key
        self._once(_FRACTIONS, self._declare_fractions)
        return f"umbel_delayed_ms_{milliseconds}", key

    def prepare(self) -> None:
        """Declare all delay queues now."""
        self._once(_LEVELS, self._declare_levels)
        self._once(_FRACTIONS, self._declare_fractions)
        self._once(ALL_THERE, lambda channel: declare_exchange(channel, Exchange(ALL_THERE)))

    def _look(self) -> None:
        """Find out whether somebody has declared all delay queues."""
        with self._channel(None) as channel:
            there = has_exchange(channel, ALL_THERE)
        if there:
            with self._guard:
                self._done |= {_LEVELS, _FRACTIONS}

    def serve_celery(self, queue: Queue, deadline: float | None = None) -> None:
        """Bind a quorum queue with another than a direct exchange as Celery's workers do, for Celery's clients.

        It ends at ``deadline`` (``time.monotonic``) if that is given.
        """
        if not is_quorum(queue) or queue.exchange.type == "direct":
            return

        def bind(channel: Channel) -> None:
            key = f"#.{queue.binding_key}"
            bind_exchange(channel, queue.exchange_name, DELAYED_DELIVERY, key)
            bind_queue(channel, queue.name, queue.exchange_name, key)

        self._once(_LEVELS, self._declare_levels, deadline)
        self._once(f"celery {queue.name}", bind, deadline)

    def forget(self, queue: str = "") -> None:
        """Declare again when needed: for one queue, or everything."""
        with self._guard:
            self._done = self._done - {f"queue {queue}", f"celery {queue}"} if queue else set()

    def _once(self, what: str, declare: Callable[[Channel], None], deadline: float | None = None) -> None:
        if what in self._done:
            return
        with self._channel(deadline) as channel:
            declare(channel)
        with self._guard:
            self._done.add(what)

    def _declare_ends(self, channel: Channel) -> None:
        declare_exchange(channel, Exchange(DELAYED_DELIVERY, type="topic"))
        declare_exchange(channel, Exchange(WAY_IN, type="topic"))
        bind_exchange(channel, DELAYED_DELIVERY, WAY_IN, NO_SECONDS)

    def _declare_levels(self, channel: Channel) -> None:
        """All in one write: a call for each of these 142 would take a tenth of a second at best."""
        methods: list[Any] = [
            spec.Exchange.Declare(exchange=name, type="topic", durable=True, nowait=True)
            for name in (DELAYED_DELIVERY, WAY_IN)
        ]
        for level in reversed(range(LEVELS)):
            name, higher = level_name(level), LEVELS - 1 - level
            stay, first = "*." * higher + "1.#", "0." * higher + "1.#"
            methods += [
                spec.Exchange.Declare(exchange=name, type="topic", durable=True, nowait=True),
                spec.Queue.Declare(queue=name, durable=True, nowait=True, arguments=level_arguments(level, self._type)),
                spec.Queue.Bind(queue=name, exchange=name, routing_key=stay, nowait=True),
                spec.Queue.Bind(queue=name, exchange=WAY_IN, routing_key=first, nowait=True),
            ]
        for level in reversed(range(LEVELS)):
            follower = level_name(level - 1) if level else DELAYED_DELIVERY
            skip = "*." * (LEVELS - 1 - level) + "0.#"
            methods.append(
                spec.Exchange.Bind(destination=follower, source=level_name(level), routing_key=skip, nowait=True)
            )
        channel.send(methods)
        bind_exchange(channel, DELAYED_DELIVERY, WAY_IN, NO_SECONDS)

    def _declare_fractions(self, channel: Channel) -> None:
        methods: list[Any] = []
        for milliseconds in range(STEP, 1000, STEP):
            name = f"umbel_delayed_ms_{milliseconds}"
            arguments = _holding(self._type, milliseconds, WAY_IN)
            methods += [
                spec.Exchange.Declare(exchange=name, type="fanout", durable=True, nowait=True),
                spec.Queue.Declare(queue=name, durable=True, nowait=True, arguments=arguments),
                spec.Queue.Bind(queue=name, exchange=name, routing_key="", nowait=True),
            ]
        channel.send(methods)
        self._declare_ends(channel)

    def _bind(self, channel: Channel, queue: str) -> None:
        if queue not in self._topology.declared:
            self._topology.make_if_missing(queue)
        self._declare_ends(channel)
        bind_queue(channel, queue, DELAYED_DELIVERY, ANY_DELAY + queue)

    def _relay(self, exchange: str, routing_key: str) -> str:
        """The name of the queue that passes messages on to an exchange, made once."""
        digest = hashlib.sha256(f"{exchange}\0{routing_key}".encode()).hexdigest()[:24]
        name = f"umbel_delayed_relay_{digest}"

        def declare(channel: Channel) -> None:
            arguments = _holding(self._type, 0, exchange) | {"x-dead-letter-routing-key": routing_key}
            declare_queue(channel, name, arguments)
            bind_queue(channel, name, DELAYED_DELIVERY, ANY_DELAY + name)

        self._once("ends", self._declare_ends)
        self._once(name, declare)
        return name
