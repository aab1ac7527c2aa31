"""Consuming from RabbitMQ: one connection, its own I/O thread, one channel; see ``intake`` for the flow.

A hold hangs on the connection: the broker gives back what was held as soon as it is gone, and a settlement made after
that is stale. While something held was lost and ``renew`` has not told so, nothing new is claimed. A process that was
frozen does not see at once that its connection is gone, so ``renew`` asks the broker for an answer, which proves the
hold for one heartbeat, and no copy of a held message is made without such a proof.

Follow-ups, requeues, dead letters and parked messages are published with confirms before the delivery is acknowledged.
Nobody waits for that with deliveries that are put off, see ``putting_off``.
A requeue publishes a copy, which goes to the end of the queue: ``basic.nack`` would keep the place, but quorum queues
count it as a failed delivery, and RabbitMQ 4 drops a message after twenty. The count of copies stands in a header of
Umbel's; ``deliveries`` is that plus ``x-delivery-count`` (quorum queues) or the ``redelivered`` flag (classic queues,
which keep no count). Giving back what was not settled, on close or because nobody asks for it any more, is done by
``basic.nack`` on classic queues (in place, but flagged) and by a copy on quorum queues (not counted, but at the end,
where RabbitMQ 3 would put it in any case).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from umbel.brokers.amqp.aside import burial, parking, requeued
from umbel.brokers.amqp.frames import Content
from umbel.brokers.amqp.intake import Intake
from umbel.brokers.amqp.posts import Post, arrival
from umbel.brokers.amqp.putting_off import PuttingOff, Wait
from umbel.brokers.amqp.session import Session, Sessions
from umbel.brokers.amqp.unproven import Unproven
from umbel.brokers.base import Action, Consumer, Delivery, Options, Settled, Settlement
from umbel.errors import OperationalError, UmbelError
from umbel.message import Message
from umbel.queues import Queue

logger = logging.getLogger("umbel.brokers.amqp")

_ROUND_TRIP = 0.25
"""Seconds that ``settle`` waits at most until the broker has seen its acknowledgements."""
_TRUSTING = 0.005
"""The same where all settlements are trusting. Whoever settles has other things to do, which may be what others wait
for, and a loaded server takes many times as long."""
_PROVEN = 0.02
"""Seconds after an answer of the broker in which it is not asked for another."""
_PROOF = 2.0
"""Seconds that ``renew`` and ``close`` wait at most for the proof that the connection is alive."""
_MOST_MEANWHILE = 128
"""Messages handed out while others are being sent back, and after it in every ``_MEANWHILE`` seconds for
``_SPARING`` seconds. A worker that sends back what it is given, since its turn has not come, would otherwise be given
the more the longer that takes, and settle nothing else until all of it was published."""
_MEANWHILE = 0.1
_SPARING = 1.0
_WITHDRAWAL = 0.05
"""Seconds that an empty ``receive`` waits at most until nothing more can come."""


class Owner(Protocol):
    """What a consumer needs of its broker."""

    options: Options

    def declare(self, queue: Queue) -> None: ...

    def send(self, posts: Sequence[Post]) -> list[UmbelError | None]: ...

    def post(self, message: Message) -> Post: ...

    def requeue_route(self, queue: str, delay: float) -> tuple[str, str]: ...

    def is_quorum(self, queue: str) -> bool: ...

    def prepare_delays(self) -> None: ...


class Tag(Struct, frozen=True):
    """Which delivery of which connection. ``turn``: how often it was put off before and handed out again."""

    connection: int
    number: int
    turn: int = 0


class AMQPConsumer(Consumer):
    """See the module's docstring."""

    def __init__(self, owner: Owner, sessions: Sessions, queues: Sequence[Queue]) -> None:
        self._owner = owner
        self._sessions = sessions
        self._queues = list({queue.name: queue for queue in queues}.values())
        lock = threading.RLock()
        self._changed, self._answered = threading.Condition(lock), threading.Condition(lock)
        self._opening = threading.Lock()
        self._intake: Intake | None = None
        self._connection = 0
        self._lost = False
        self._waits = False
        self._interrupted = False
        self._closed = False
        self._done: set[Tag] = set()
        self._turns: dict[int, int] = {}
        """Of what was put off and handed out again."""
        self._putting_off = PuttingOff(lock, self._send_away)
        self._unproven = Unproven()
        self._spare = math.inf
        """How many messages may be handed out until ``_spare_until``, or until others are sent back again."""
        self._spare_until = 0.0
        self._sparing_until = 0.0
        self._open()

    # -- the connection --

    def _open(self) -> Intake:
        """The present intake, on a new connection if the last one broke."""
        with self._opening:
            if self._intake is not None:
                return self._intake
            for queue in self._queues:
                self._owner.declare(queue)
            self._owner.prepare_delays()
            session: Session = self._sessions.get()
            arguments = {queue.name: queue.consumer_arguments for queue in self._queues}
            intake = Intake(session, arguments, self._changed, self._answered)
            intake.open(self._owner.options.connect_timeout)
            with self._changed:
                self._connection += 1
                self._intake = intake
            return intake

    def _note_loss(self) -> UmbelError | None:
        """Forget a broken connection and all that was held on it; why it broke. ``changed`` is held."""
        intake = self._intake
        if intake is None or (intake.failure is None and intake.session.alive):
            return None
        self._lost = self._lost or bool(intake.held)
        self._putting_off.clear()
        self._turns.clear()
        self._unproven.lose(intake.answered)
        self._intake = None
        return intake.failure or intake.session.error

    def _raise_loss(self) -> None:
        error = self._note_loss()
        if error is not None and not self._closed:
            raise OperationalError(f"the consumer's connection broke: {error}")

    # -- the seam --

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        deadline = time.monotonic() + timeout
        with self._changed:
            self._raise_loss()
        if self._intake is None and not self._closed:
            self._open()
        with self._changed:
            self._waits = True
            try:
                return self._wait(limit, timeout, deadline)
            finally:
                self._waits = False
                if self._intake is not None:
                    self._intake.end_ask()

    def _wait(self, limit: int, timeout: float, deadline: float) -> list[Delivery]:
        if self._intake is not None and not self._lost and limit > 0:
            self._intake.ask(limit, timeout)
        while not self._closed and not self._interrupted:
            self._raise_loss()
            rest = deadline - time.monotonic()
            spare, due = self._spare_now(), self._putting_off.until_due()
            there = self._intake is not None and self._intake.buffer and spare
            if rest <= 0 or (not self._lost and (there or due <= 0)):
                break
            self._changed.wait(min(rest, due or rest, rest if spare else _MEANWHILE))
        self._interrupted = False
        taken = self._take(limit)
        if not taken and self._intake is not None and not self._intake.buffer and not self._closed:
            self._intake.withdraw(_WITHDRAWAL)
            taken = self._take(limit)
        return taken

    def _take(self, limit: int) -> list[Delivery]:
        if self._intake is None or self._closed or self._lost:
            return []
        due = [self._again(self._intake, wait) for wait in self._putting_off.take_due(limit)]
        taken = self._intake.take(int(min(limit - len(due), self._spare_now())))
        self._spare -= len(taken)
        fresh = [self._delivery(content, queue) for content, queue in taken]
        if self._unproven.lost and (again := self._unproven.settled_before(fresh)):
            self._end_again(self._intake, again)
            fresh = [delivery for delivery in fresh if delivery not in again]
        return due + fresh

    def _end_again(self, intake: Intake, again: Sequence[Delivery]) -> None:
        """These were settled on a connection that broke before the broker saw it."""
        intake.acknowledge([delivery.tag.number for delivery in again], asked=True)
        intake.question()

    def _again(self, intake: Intake, wait: Wait) -> Delivery:
        """What was put off, for the worker once more."""
        intake.hold_again(wait.number)
        turn = self._turns[wait.number] = wait.delivery.tag.turn + 1
        return replace(wait.delivery, tag=Tag(self._connection, wait.number, turn))

    def _spare_now(self) -> float:
        """How many messages may be handed out now that were not before. ``changed`` is held."""
        if self._putting_off.going >= _MOST_MEANWHILE:
            return 0
        moment = time.monotonic()
        if moment >= self._spare_until:
            self._spare = _MOST_MEANWHILE if moment < self._sparing_until else math.inf
            self._spare_until = moment + _MEANWHILE
        return self._spare

    def _delivery(self, content: Content, queue: str) -> Delivery:
        found = arrival(content, queue)
        return Delivery(Tag(self._connection, content.tag), queue, found.message, found.deliveries, found.fault)

    def settle(self, settlements: Sequence[Settlement], want: int = 0) -> Settled:
        settled = Settled()
        with self._changed:
            self._note_loss()
            ours = self._ours(settlements, settled.stale)
            put_off = self._put_off(ours)
        failure = self._publish(ours)
        with self._changed:
            self._note_loss()
            tags: list[int] = []
            trusting = all(settlement.trusting for settlement in ours)
            for settlement in ours:
                tag: Tag = settlement.delivery.tag
                if self._intake is None or tag.connection != self._connection or tag.number not in self._intake.held:
                    settled.stale.append(settlement)
                else:
                    tags.append(tag.number)
            if failure is not None:
                self._done |= put_off | {settlement.delivery.tag for settlement in ours}
            else:
                self._done.clear()
            if self._intake is not None:
                if tags:
                    for number in tags:
                        self._forget(number)
                    self._intake.acknowledge(tags, asked=want > 0 or self._waits)
                if want > 0 and not self._lost and not self._closed:
                    self._intake.ask(want)
                if tags or want > 0:
                    asked = want > 0 or not trusting or self._intake.proven_before(_PROVEN)
                    if asked:
                        self._intake.question()
                    else:
                        self._intake.flush()
                    question = self._intake.questions + (not asked)
                    self._unproven.add(question, self._intake.answered, ours, settled.stale)
        if failure is not None:
            raise failure
        if want > 0 and self._intake is None and not self._closed and not self._lost:
            self._open()
        with self._changed:
            if self._intake is not None and (tags or want > 0):
                self._intake.await_answer(_TRUSTING if trusting else _ROUND_TRIP)
                self._raise_loss()
            settled.deliveries = self._take(want)
        return settled

    def _ours(self, settlements: Sequence[Settlement], stale: list[Settlement]) -> list[Settlement]:
        """What is still held, each once; what was settled by an earlier, broken call is left out."""
        held = self._intake.held if self._intake is not None else set[int]()
        seen: set[Tag] = set()
        ours: list[Settlement] = []
        for settlement in settlements:
            tag: Any = settlement.delivery.tag
            if tag in self._done:
                continue
            if (
                not isinstance(tag, Tag)
                or tag.connection != self._connection
                or tag.number not in held
                or tag.turn != self._turns.get(tag.number, 0)
                or tag in seen
            ):
                stale.append(settlement)
                continue
            seen.add(tag)
            ours.append(settlement)
        return ours

    def _put_off(self, ours: list[Settlement]) -> set[Tag]:
        """Take out of ``ours`` what is only put off; which these are. ``changed`` is held."""
        later = [each for each in ours if each.action is Action.REQUEUE and each.delay > 0 and not each.publish]
        later = [each for each in later if not each.count]
        if not later or self._intake is None or self._closed:
            return set()
        moment = time.monotonic()
        for each in later:
            self._intake.put_aside(each.delivery.tag.number)
        self._putting_off.begin([Wait(moment + each.delay, each.delivery.tag.number, each.delivery) for each in later])
        self._changed.notify_all()
        tags = {each.delivery.tag for each in later}
        ours[:] = [each for each in ours if each.delivery.tag not in tags]
        return tags

    def _send_away(self, waits: Sequence[Wait]) -> None:
        """Have the broker bring back what was put off when its time has come."""
        with self._changed:
            self._note_loss()
            intake = self._intake
            if intake is None or any(wait.delivery.tag.connection != self._connection for wait in waits):
                return
            if not self._is_alive(intake):
                self._putting_off.send_again(waits)
                return
        moment = time.monotonic()
        ours = [Settlement(w.delivery, Action.REQUEUE, delay=w.rest(moment)) for w in waits]
        failure = self._publish(ours)
        sent = {settlement.delivery.tag.number for settlement in ours}
        with self._changed:
            self._note_loss()
            if intake is not self._intake:
                return
            left = [wait for wait in waits if wait.number not in sent]
            if isinstance(failure, OperationalError):
                self._putting_off.send_again(left)
                left = []
            elif left:
                logger.warning("%d deliveries cannot be put off, they go back to the queue: %s", len(left), failure)
            returned = {wait.number for wait in left}
            for number in sent | returned:
                intake.hold_again(number)
                self._forget(number)
            intake.put_back(returned)
            intake.acknowledge(sent, asked=self._waits)
            intake.question()

    def _forget(self, number: int) -> None:
        """This delivery is settled for good."""
        self._turns.pop(number, None)
        self._putting_off.forget(number)

    def _publish(self, ours: list[Settlement]) -> UmbelError | None:
        """Publish all that goes with the settlements. Those for which that failed are taken out of ``ours``."""
        posts: list[Post] = []
        owners: list[int] = []
        failed: dict[int, UmbelError] = {}
        for place, settlement in enumerate(ours):
            if settlement.action is Action.ACK and not settlement.publish:
                continue
            try:
                made = self._posts(settlement)
            except UmbelError as error:
                failed[place] = error
                continue
            posts += made
            owners += [place] * len(made)
        if posts:
            sent_back = any(settlement.action is Action.REQUEUE for settlement in ours)
            for place, outcome in zip(owners, self._send(posts, sent_back), strict=True):
                if outcome is not None:
                    failed.setdefault(place, outcome)
        if not failed:
            return None
        ours[:] = [settlement for place, settlement in enumerate(ours) if place not in failed]
        errors = sorted(failed.values(), key=lambda error: not isinstance(error, OperationalError))
        return errors[0]

    def _send(self, posts: Sequence[Post], sent_back: bool) -> list[UmbelError | None]:
        if not sent_back:
            return self._owner.send(posts)
        with self._changed:
            self._spare, self._spare_until = _MOST_MEANWHILE, math.inf
        try:
            return self._owner.send(posts)
        finally:
            with self._changed:
                self._spare_until = 0.0
                self._sparing_until = time.monotonic() + _SPARING
                self._changed.notify_all()

    def _posts(self, settlement: Settlement) -> list[Post]:
        posts = [self._owner.post(message) for message in settlement.publish]
        delivery = settlement.delivery
        deliveries = delivery.deliveries + settlement.count
        if settlement.action is Action.REQUEUE:
            route = self._owner.requeue_route(delivery.queue, settlement.delay)
            posts.append(requeued(delivery.message, delivery.queue, deliveries, route))
        elif settlement.action is Action.DEAD_LETTER:
            posts.append(burial(delivery, deliveries, settlement.reason, self._owner.options.dead_letter_expires))
        elif settlement.action is Action.PARK:
            posts.append(parking(delivery, deliveries))
        return posts

    @property
    def proven_for(self) -> float:
        """One heartbeat: RabbitMQ gives up no connection within it."""
        with self._changed:
            return (self._intake.session.heartbeat if self._intake is not None else 0.0) or float("inf")

    def renew(self) -> bool:
        with self._changed:
            intake = self._intake
            proven = intake is None or self._is_alive(intake)
            self._note_loss()
            kept, self._lost = not self._lost, False
            self._changed.notify_all()
            if not proven and kept and intake is self._intake:
                raise OperationalError(f"the broker did not answer within {_PROOF:g} s: what is held may be lost")
            surplus = intake.surplus() if intake is not None and intake is self._intake else []
        if intake is not None and surplus:
            self._give_back(intake, surplus)
        return kept

    def _all_held(self, intake: Intake) -> list[tuple[Content, str]]:
        """What there is to give back; nothing when the connection is not alive, since the broker does it then."""
        intake.end_credit()
        return intake.take_all() if self._is_alive(intake) else []

    @staticmethod
    def _is_alive(intake: Intake) -> bool:
        """Whether the broker answers on this connection, so that what is held on it is ours. ``changed`` is held."""
        intake.question()
        return intake.await_answer(_PROOF)

    def _give_back(self, intake: Intake, held: Sequence[tuple[Content, str]]) -> None:
        """Return messages to their queues uncounted, as far as the queue can; the connection is alive."""
        deliveries = [self._delivery(content, queue) for content, queue in held]
        copied = [delivery for delivery in deliveries if self._owner.is_quorum(delivery.queue)]
        posts = [requeued(delivery.message, delivery.queue, delivery.deliveries) for delivery in copied]
        outcomes = self._owner.send(posts) if posts else []
        safe = {delivery.tag.number for delivery, error in zip(copied, outcomes, strict=True) if error is None}
        with self._changed:
            intake.put_back(delivery.tag.number for delivery in deliveries if delivery.tag.number not in safe)
            intake.acknowledge(safe, asked=False)
            intake.question()

    def interrupt(self) -> None:
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def close(self) -> None:
        put_off = self._putting_off.close(_PROOF)
        if put_off:
            self._send_away(put_off)
        with self._changed:
            if self._closed:
                return
            self._closed = True
            intake, self._intake = self._intake, None
            held = self._all_held(intake) if intake is not None and intake.session.alive else []
            self._changed.notify_all()
        try:
            if intake is not None and held:
                self._give_back(intake, held)
        finally:
            self._sessions.close()
