"""The broker seam: what every message system must do for Umbel, and the words for it.

A driver is one subclass of :class:`Broker` with its :class:`Consumer`; the contract stands here and is tested by
``tests/conformance/broker``, which every driver runs whole. Everything is synchronous and works on batches.

Every method raises OperationalError when the system cannot be reached or broke off (trying again may help), and
BrokerError when it refused. A driver connects on first use, reconnects on the next call after an error, and is
usable from any thread and, after a fork, from the child (``after_fork``).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from msgspec import Struct, field

from umbel.message import Message
from umbel.queues import Queue

if TYPE_CHECKING:
    from umbel.backends.base import Backend, Part, Result
    from umbel.revocations import Revocations

Place = Literal["ready", "delayed", "held", "parked", "dead"]
"""Where a message stands; the words of :class:`QueueSize`."""


class Options(Struct, frozen=True, kw_only=True):
    """What an application tells its driver. Times are seconds."""

    publish_timeout: float = 10.0
    connect_timeout: float = 4.0
    key_prefix: str = ""
    lowest_priority_first: bool = False
    """Celery's order on Redis (0 is most urgent), for mixed fleets; Umbel's own is 9 first everywhere."""
    mixed_fleet: bool = False
    """Write only what Celery's workers understand: a delayed message is sent to its queue with its ``eta``."""
    delivery_limit: int = 10
    dead_letter_expires: float = 7 * 86400.0
    ssl: Mapping[str, Any] | bool | None = None
    transport: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Features(Struct, frozen=True, kw_only=True):
    """What the system itself can do; what is False is emulated by the driver, and documented."""

    delay: bool = True
    priority: bool = True
    fanout: bool = True
    leases: bool = True
    """Holds hang on a lease that ``renew`` keeps; False: on a session that the system watches itself."""
    survives_reconnect: bool = True
    """A consumer still holds its deliveries after its connection broke; False: they are delivered anew."""
    priorities: int = 10
    """How many distinct priorities are kept apart."""
    shared: bool = True
    """Other processes reach the same messages; False: only this one."""
    locates: bool = True
    """``locate`` can tell where a message stands; False: nothing can look into this system's queues."""


class Action(enum.Enum):
    """How a delivery ends."""

    ACK = "ack"
    REQUEUE = "requeue"
    DEAD_LETTER = "dead-letter"
    PARK = "park"
    """Set aside, listed by task name, until a worker that knows the task asks for it (``unpark``)."""


class Delivery(Struct, gc=False):
    """A message that a consumer holds.

    ``tag`` identifies the hold and belongs to the driver. ``deliveries``: how often it was delivered before without
    coming to an end. A message that cannot be read has ``fault`` set to the reason and its raw bytes as body.
    """

    tag: Any
    queue: str
    message: Message
    deliveries: int = 0
    fault: str = ""


class Settlement(Struct, gc=False):
    """How one delivery ends, and everything that happens with it in the same step.

    ``delay``: seconds until a requeued message is delivered again. ``count``: the delivery counts as failed (a
    crash). ``reason`` says why it is dead-lettered. ``result`` and ``parts`` are stored and ``publish`` sent only
    if the hold is still ours; with the part that makes a chord complete, the message that finishes it is sent.
    ``closes``: the chord that is finished with this, which the worker tells the result store afterwards. ``fallout``:
    FAILURE of calls that will never run because of this; the worker has it stored before. ``keep``: what
    ``Consumer.keep`` gave for some of the messages in ``publish``: these are held from the same step on, and no other
    consumer sees them. ``trusting``: ``settle`` need not wait until the system has seen this, since the task has run; a
    driver that does not wait ends the message once more if that was lost and it comes to the same consumer again.
    """

    delivery: Delivery
    action: Action = Action.ACK
    delay: float = 0.0
    count: bool = False
    reason: str = ""
    result: Result | None = None
    publish: tuple[Message, ...] = ()
    parts: tuple[Part, ...] = ()
    closes: str = ""
    fallout: tuple[Result, ...] = ()
    keep: tuple[Delivery, ...] = ()
    trusting: bool = False


class Settled(Struct):
    """What ``settle`` brought: new deliveries, and the settlements refused because the hold was lost."""

    deliveries: list[Delivery] = field(default_factory=list[Delivery])
    stale: list[Settlement] = field(default_factory=list[Settlement])


class QueueSize(Struct, frozen=True):
    """Messages in a queue by where they stand. A number the system cannot tell is -1."""

    ready: int = 0
    delayed: int = 0
    held: int = 0
    parked: int = 0
    dead: int = 0


class DeadLetter(Struct, frozen=True):
    """A message that ended without success. ``id`` names it for replay and purge; ``at`` is Unix time in seconds."""

    id: str
    queue: str
    message: Message
    reason: str
    at: float
    deliveries: int = 0


class Note(Struct, frozen=True):
    """One fan-out message: remote control, events."""

    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    routing_key: str = ""


class Consumer(ABC):
    """One worker's hold on some queues, under one lease.

    ``receive``, ``settle`` and ``renew`` are each called by a thread of their own, at the same time.
    """

    @property
    def proven_for(self) -> float:
        """Seconds after a successful ``renew`` in which what is held is certainly ours, if that is less than the lease:
        where ``features.leases`` is False, ``renew`` proves the session instead."""
        return float("inf")

    @abstractmethod
    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Claim up to ``limit`` messages, in one atomic step; wait up to ``timeout`` seconds for the first.

        Returns early with what is there. Messages whose time has come are delivered; expired ones too (the worker
        judges). Also returns what this consumer holds but was never told (an answer lost with a connection).
        """

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement], want: int = 0) -> Settled:
        """End deliveries and claim up to ``want`` new ones without waiting, in one round trip where possible.

        Atomic for each settlement: result, follow-ups and acknowledgement together where ``stores_results_of`` is
        true; otherwise follow-ups first, acknowledgement last (results then never come here). After
        OperationalError the same call may be repeated; what was settled by the broken call is not done twice.
        """

    def keep(self, message: Message) -> Delivery | None:
        """A delivery of a message that the next ``settle`` is to publish without an exchange, for one that wants to run
        it at once; it is not held before that settlement was made, and never if that is stale. None where the system
        cannot publish and hold in one step, or the queue is not consumed here. Any thread; no I/O."""
        return None

    @abstractmethod
    def renew(self) -> bool:
        """Keep the lease. False: it was lost, everything held is stale, and a new lease has begun. Called every
        ``lease / 5`` seconds. Also returns the work of consumers whose lease has run out to their queues,
        counting the delivery, at least once per lease."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make a waiting ``receive`` return soon (≤ 0.1 s). Any thread."""

    @abstractmethod
    def close(self) -> None:
        """Give back, uncounted and in order, all that is held, and end the lease. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Listener(ABC):
    """A subscription to fan-out messages, from the moment it was made."""

    @abstractmethod
    def receive(self, timeout: float) -> list[Note]:
        """What has arrived, in order; waits up to ``timeout`` seconds for the first."""

    @abstractmethod
    def close(self) -> None:
        """End the subscription. Idempotent."""


class Lock(ABC):
    """A named lock with one holder at a time, whose hold ends ``ttl`` seconds after the last renewal."""

    @abstractmethod
    def acquire(self) -> bool:
        """Try once, without waiting; true when held (also when it was held before: renews)."""

    @abstractmethod
    def renew(self) -> bool:
        """Prolong by ``ttl``; false when it is no longer ours."""

    @abstractmethod
    def release(self) -> None:
        """Give it up if it is ours."""


class Broker(ABC):
    """A message system. ``url`` names it; one object serves all threads of a process."""

    features: ClassVar[Features]

    def __init__(self, url: str, options: Options | None = None) -> None:
        self.url = url
        self.options = options or Options()

    # -- publishing --

    @abstractmethod
    def publish(self, messages: Sequence[Message], timeout: float | None = None) -> None:
        """Send messages; returns when the system has them all for sure.

        A message with a future ``eta`` is kept by the system until then (unless ``mixed_fleet``). ``timeout``
        (default ``publish_timeout``) is the one deadline in seconds, reconnects included: PublishTimeout after it.
        Raises UnroutableMessage when no queue takes a message. Queues named by ``message.queue`` with an empty
        exchange come into being on first use. A call repeated within after a broken answer does not send twice
        where the system makes that possible.
        """

    # -- consuming --

    @abstractmethod
    def consumer(self, queues: Sequence[Queue], *, name: str, lease: float = 5.0, window: int = 0) -> Consumer:
        """Begin to consume. ``name``: the worker's node name; ``lease``: seconds; ``window``: the most it will hold
        at a time, 0 when that is not known. Queues earlier in the list have no precedence."""

    # -- results --

    def stores_results_of(self, backend: Backend) -> bool:
        """Whether ``settle`` stores results of this backend in its own atomic step."""
        return False

    # -- administration --

    @abstractmethod
    def declare(self, queue: Queue, timeout: float | None = None) -> None:
        """Create queue, exchange and binding if they are missing.

        Tried once, for at most ``timeout`` seconds, connecting included; None: the driver's own limits.
        """

    @abstractmethod
    def queues(self) -> list[str]:
        """Names of the queues that exist, where the system can list them; otherwise those declared here."""

    @abstractmethod
    def size(self, queue: str) -> QueueSize:
        """Count messages; zeros for a queue that does not exist."""

    @abstractmethod
    def peek(self, queue: str, limit: int = 10) -> list[Message]:
        """The next ready messages, oldest first, left where they are."""

    def locate(self, task_id: str) -> Place | None:
        """Where the message of a task stands now, of several copies any; None when there is none.

        For administration: it looks through all that is stored. Raises BrokerError unless ``features.locates``.
        """
        from umbel.errors import BrokerError

        raise BrokerError(f"{type(self).__name__} cannot tell where a message is: its queues cannot be looked into")

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Remove all ready and delayed messages; returns how many."""

    @abstractmethod
    def delete(self, queue: str) -> None:
        """Remove a queue with all it contains, parked and dead messages too."""

    @abstractmethod
    def dead_letters(self, queue: str, limit: int = 100) -> list[DeadLetter]:
        """Dead-lettered messages of a queue, oldest first."""

    @abstractmethod
    def replay(self, queue: str, ids: Collection[str] | None = None) -> int:
        """Send dead letters (all, or these ids) to their queue again with a delivery count of 0; how many."""

    @abstractmethod
    def purge_dead(self, queue: str, ids: Collection[str] | None = None) -> int:
        """Remove dead letters (all, or these ids); how many."""

    @abstractmethod
    def parked(self, queue: str) -> dict[str, int]:
        """Parked messages by task name."""

    @abstractmethod
    def unpark(self, queue: str, tasks: Collection[str]) -> int:
        """Put parked messages of these tasks back into the queue; how many."""

    # -- fan-out and locks --

    @abstractmethod
    def broadcast(self, exchange: str, note: Note) -> None:
        """Send to all present listeners of a fan-out exchange."""

    @abstractmethod
    def listen(self, exchange: str, pattern: str = "#") -> Listener:
        """Subscribe to a fan-out exchange; ``pattern`` filters routing keys (``*`` one word, ``#`` any)."""

    @abstractmethod
    def lock(self, name: str, ttl: float) -> Lock:
        """A lock kept in the system."""

    def revocations(self) -> Revocations | None:
        """Where revocations of tasks are kept; None where the system can keep none."""
        return None

    # -- life --

    @abstractmethod
    def close(self) -> None:
        """Close all connections of this object; it may be used again after. Idempotent."""

    @abstractmethod
    def after_fork(self) -> None:
        """In a forked child: forget connections without touching the parent's."""
