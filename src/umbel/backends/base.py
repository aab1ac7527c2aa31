"""The result seam: what every result store must do for Umbel, and the words for it.

A driver is one subclass of :class:`Backend`; ``tests/conformance/backend`` is its contract, run whole by every driver.
Encoding (``encode``/``decode``) is pure and happens where the task runs; storing happens in batches in the
supervisor, or inside ``Consumer.settle`` where broker and store are one system. Formats are Celery's where Celery has
the system. Errors as for brokers: OperationalError when trying again may help, BackendError otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec import Struct, field

from umbel.codecs import dumps, loads, serializer
from umbel.codecs.results import unwrap, wrap_compressed
from umbel.message import Message
from umbel.states import EXCEPTION_STATES as EXCEPTION_STATES
from umbel.states import READY_STATES as READY_STATES

if TYPE_CHECKING:
    from umbel.revocations import Revocations


class Options(Struct, frozen=True, kw_only=True):
    """What an application tells its driver. Times are seconds."""

    serializer: str = "json"
    accept: frozenset[str] = frozenset({"application/json"})
    compression: str | None = None
    expires: float = 86400.0
    """0: never."""
    failure_expires: float | None = None
    extended: bool = False
    persistent: bool = False
    connect_timeout: float = 4.0
    timeout: float = 10.0
    key_prefix: str = ""
    ssl: Mapping[str, Any] | bool | None = None
    transport: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Meta(Struct, kw_only=True):
    """What is known of a task: Celery's result document (section 8.1 of the protocol notes).

    ``result``: the return value, an exception for the states RETRY, FAILURE and REVOKED, or custom data. An encoded
    exception is already in its plain form; a decoded one is rebuilt by ``AsyncResult``.
    """

    task_id: str
    status: str
    result: Any = None
    traceback: str | None = None
    children: Any = None
    date_done: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    # with result_extended:
    name: str | None = None
    args: Any = None
    kwargs: Any = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    stamps: Mapping[str, Any] | None = None

    @property
    def ready(self) -> bool:
        return self.status in READY_STATES


class Result(Struct, frozen=True, array_like=True, gc=False):
    """A :class:`Meta` encoded by its backend, ready to be stored by any process.

    ``payload`` is the driver's own encoding; ``expires``: seconds, 0 for never. ``reply_to`` and ``correlation_id`` are
    copied from the request for stores that answer to a queue.
    """

    task_id: str
    state: str
    payload: bytes
    expires: float = 0.0
    reply_to: str = ""
    correlation_id: str = ""


class Part(Struct, frozen=True, array_like=True, gc=False):
    """How one member of a chord ended, and what is to be sent when all have.

    ``member``: the task's id; a member counts once under its id and ``index``. ``payload``: by ``encode_part``.
    ``size``: how many members the chord had when it was sent, 0 where only the store knows. ``added``: how many this
    member added. ``then``: the message that finishes the chord; its id names who may do so (``claim_chord``).
    ``expires``: seconds for which the parts are kept, 0 for never.
    """

    chord: str
    member: str
    index: int
    payload: bytes
    size: int
    added: int
    expires: float
    then: Message


class Features(Struct, frozen=True, kw_only=True):
    """What the store can do."""

    push: bool = True
    """``wait`` is woken by the store; False: it polls with back-off."""
    shared: bool = True
    """Any process can read any result; False: only the process that sent the task."""
    groups: bool = True
    chords: bool = False
    """Counts the members of chords (``store_parts`` and what belongs to it)."""
    counts_with_celery: bool = False
    """Celery's workers count them in the same place, or cannot be there; elsewhere its clients have
    ``celery.chord_unlock`` wait."""
    knows_nothing: bool = False
    """Nothing is stored at all."""


class Backend(ABC):
    """A result store. One object serves all threads of a process."""

    features: ClassVar[Features]

    def __init__(self, url: str, options: Options | None = None) -> None:
        self.url = url
        self.options = options or Options()

    @property
    def reply_to(self) -> str:
        """Address that tasks sent by this thread should answer to; any unique text where the store needs none."""
        return ""

    def on_publish(self, task_ids: Sequence[str], timeout: float | None = None) -> None:  # noqa: B027 - few prepare
        """Called before tasks are sent: stores that answer to a queue make sure that it exists.

        Tried once, for at most ``timeout`` seconds; None: the driver's own limit.
        """

    def prepare(self) -> None:  # noqa: B027 - few prepare
        """Make what is missing before anything can be stored, such as tables. Called by a worker at its start; who is
        not prepared does it when it is needed. Raises as ``store``."""

    @abstractmethod
    def encode(self, meta: Meta, *, reply_to: str = "", correlation_id: str = "") -> Result:
        """Encode for storing; pure. Raises EncodeError when ``result`` cannot be serialized."""

    @abstractmethod
    def store(self, results: Sequence[Result]) -> None:
        """Store in one round trip where possible. A stored SUCCESS is never overwritten by another state."""

    @abstractmethod
    def get(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        """What is known; ids of which nothing is known are left out."""

    @abstractmethod
    def wait(self, task_ids: Collection[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        """Wait until all are ready, calling ``on_meta`` in this thread for each state change seen, at the latest when
        ready (also when it was ready before). False when ``timeout`` seconds passed first."""

    @abstractmethod
    def subscribe(self, task_id: str, on_meta: Callable[[Meta], object]) -> Callable[[], None]:
        """Call ``on_meta`` (from a thread of the backend) once when the task is ready; for ``await``. Returns the
        function that ends the subscription."""

    @abstractmethod
    def forget(self, task_ids: Sequence[str]) -> None:
        """Remove results."""

    def save_group(self, group_id: str, document: Any) -> None:
        """Store a group's structure (a JSON document). Raises BackendError where the store cannot."""
        raise unsupported(self, "saved groups")

    def restore_group(self, group_id: str) -> Any | None:
        """The document stored by ``save_group``, or None."""
        raise unsupported(self, "saved groups")

    def delete_group(self, group_id: str) -> None:
        raise unsupported(self, "saved groups")

    def revocations(self) -> Revocations | None:
        """Where revocations are kept when the broker can keep none; None where this store cannot either."""
        return None

    # -- chords --

    def encode_part(self, member: str, state: str, value: Any) -> bytes:
        """What a member's end brings to its chord, in Celery's form; an exception is in its plain form already.

        Raises EncodeError.
        """
        body = dumps([1, member, state, value], self.options.serializer).body
        return wrap_compressed(body, self.options.compression) if self.options.compression else body

    def decode_part(self, payload: bytes) -> tuple[str, str, Any]:
        """Member, state and value of a part. Raises DecodeError."""
        kind = serializer(self.options.serializer)
        found = loads(unwrap(payload), kind.content_type, kind.content_encoding, self.options.accept)
        _, member, state, value = found
        return member, state, value

    def begin_chord(self, chord: str, size: int) -> None:
        """Note a chord's size for Celery's workers; those of Umbel are told by the parts."""
        raise unsupported(self, "chords")

    def store_parts(self, parts: Sequence[Part]) -> list[Part]:
        """Note ends of members; those parts with which (or after which) their chord is complete and not finished."""
        raise unsupported(self, "chords")

    def claim_chord(self, chord: str, claimant: str) -> bool:
        """Whether ``claimant`` may finish a complete chord: it was the first to ask, and the chord is not finished.

        Also when the chord has expired: there are no parts then, so its body fails.
        """
        raise unsupported(self, "chords")

    def chord_parts(self, chord: str) -> list[bytes]:
        """The payloads of all parts in the order of their index."""
        raise unsupported(self, "chords")

    def close_chords(self, chords: Sequence[str]) -> None:
        """These chords are finished: forget their parts, and never report them complete again."""
        raise unsupported(self, "chords")

    def cleanup(self) -> int:
        """Remove expired results where the store does not do so itself; how many."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Close all connections; it may be used again after. Idempotent."""

    @abstractmethod
    def after_fork(self) -> None:
        """In a forked child: forget connections without touching the parent's."""


def unsupported(backend: Backend, what: str) -> Exception:
    from umbel.errors import BackendError

    return BackendError(f"the result backend {type(backend).__name__} does not support {what}")


def expiry_of(meta: Meta, options: Options) -> float:
    """Seconds for which a result is kept; failures may have their own."""
    if meta.status in ("FAILURE", "REVOKED") and options.failure_expires is not None:
        return options.failure_expires
    return options.expires


def meta_document(meta: Meta) -> dict[str, Any]:
    """The result document in Celery's field order, as it is serialized by key–value stores and rpc."""
    document: dict[str, Any] = {
        "status": meta.status,
        "result": meta.result,
        "traceback": meta.traceback,
        "children": meta.children,
        "date_done": meta.date_done,
    }
    if meta.group_id is not None:
        document["group_id"] = meta.group_id
    if meta.parent_id is not None:
        document["parent_id"] = meta.parent_id
    if meta.name is not None:
        document |= {
            "name": meta.name,
            "args": meta.args,
            "kwargs": meta.kwargs,
            "worker": meta.worker,
            "retries": meta.retries,
            "queue": meta.queue,
        }
        if meta.stamps:
            document |= {"stamped_headers": list(meta.stamps), **meta.stamps}
    document["task_id"] = meta.task_id
    return document


def read_document(document: Mapping[str, Any]) -> Meta:
    """The meta in a result document. Raises DecodeError when it has no task id or state."""
    from umbel.errors import DecodeError

    try:
        known = {name: document[name] for name in Meta.__struct_fields__ if name in document}
        stamped = document.get("stamped_headers")
        if stamped:
            known["stamps"] = {name: document.get(name) for name in stamped}
        return msgspec.convert(known, Meta, strict=False)
    except (TypeError, msgspec.ValidationError) as error:
        raise DecodeError(f"not a result document: {error}") from error
