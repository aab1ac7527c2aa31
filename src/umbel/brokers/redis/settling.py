"""How settlements are written for the settle script: as few arguments as each needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from umbel.backends.base import Part, Result
from umbel.backends.redis_results import milliseconds_of, part_arguments, result_key
from umbel.brokers.base import Action, Settlement
from umbel.brokers.envelope import encode_envelope
from umbel.brokers.redis.keys import Source
from umbel.brokers.redis.publisher import Place
from umbel.message import now

if TYPE_CHECKING:
    from umbel.brokers.redis.broker import RedisBroker

_KEPT = 64


class Settling:
    """Writes settlements for one broker. The formats are explained at the script ``SETTLE``."""

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker
        self._keys = broker.keys
        self._finishing: dict[str, Place] = {}
        """Of messages that finish chords, which come with every member: what publishing them writes, by id."""

    def arguments(
        self,
        settlements: Sequence[Settlement],
        lists: Sequence[Source],
        adopted: Sequence[str] = (),
        again: bool = False,
    ) -> list[Any]:
        """The script's arguments after the claim part. ``adopted``: triples of what it is to adopt before; ``again``:
        some of it may have been adopted.

        Raises UnroutableMessage for a message to be published.
        """
        prefix = self._broker.results_prefix
        usual = next((item.result.expires for item in settlements if item.result is not None), 0.0)
        written: list[Any] = [milliseconds_of(usual), len(adopted) // 3, int(again), *adopted]
        given: set[str] = set()
        for item in settlements:
            result = item.result
            tag = item.delivery.tag
            if item.action is Action.ACK:
                if result is None and not item.parts and not item.publish:
                    written += ("a", tag)
                    continue
                if result is not None and result.state == "SUCCESS" and result.expires == usual:
                    key = result_key(prefix, result.task_id)
                    if not item.parts and not item.publish:
                        written += ("r", tag, key, result.payload)
                        continue
                    if not item.parts and len(item.publish) == len(item.keep) == 1:
                        (kept,) = item.keep
                        written += ("k", tag, key, result.payload, kept.tag, encode_envelope(kept.message))
                        continue
                    if len(item.parts) == 1 and not item.publish:
                        written += ("p", tag, key, result.payload)
                        written += self._member(item.parts[0], given)
                        continue
            written += self._whole(item, lists)
        return written

    def _whole(self, item: Settlement, lists: Sequence[Source]) -> list[Any]:
        tag = item.delivery.tag
        action = self._action(item, lists[int(tag.partition(":")[0])])
        written: list[Any] = ["x", tag, *action, int(item.count)]
        written += self._result(item.result)
        places = self._places(item)
        written.append(len(places))
        for place in places:
            written += (place.kind, place.key, place.score, place.value)
        written.append(len(item.parts))
        for part in item.parts:
            written += (*part_arguments(self._broker.results_prefix, part), part.then.id, *self._then(part))
        return written

    def _places(self, item: Settlement) -> list[Place]:
        """What publishing and keeping its messages writes."""
        moment = now()
        tags = {id(delivery.message): delivery.tag for delivery in item.keep}
        places: list[Place] = []
        for message in item.publish:
            tag = tags.get(id(message))
            if tag is not None:
                places.append(Place("k", tag, 0.0, encode_envelope(message)))
            else:
                places += self._broker.publishing.places(message, moment)
        return places

    def _member(self, part: Part, given: set[str]) -> tuple[Any, ...]:
        """A part, with the message that finishes its chord unless it is among those ``given`` in this call."""
        arguments = part_arguments(self._broker.results_prefix, part)
        if part.then.id in given:
            return (*arguments, part.then.id, "0")
        given.add(part.then.id)
        return (*arguments, part.then.id, "1", *self._then(part))

    def _then(self, part: Part) -> tuple[Any, ...]:
        """What publishing the message that finishes a chord writes."""
        place = self._finishing.get(part.then.id)
        if place is None:
            if len(self._finishing) >= _KEPT:
                self._finishing.clear()
            place = self._finishing[part.then.id] = self._broker.publishing.places(part.then, now())[0]
        return place.kind, place.key, place.score, place.value

    def _action(self, item: Settlement, place: Source) -> tuple[Any, ...]:
        keys, queue = self._keys, place.queue
        if item.action is Action.REQUEUE:
            return ("requeue", place.key, keys.delayed(queue), place.step, max(0.0, item.delay), "")
        if item.action is Action.DEAD_LETTER:
            expires = self._broker.options.dead_letter_expires
            return ("bury", keys.dead(queue), keys.dead_letters(queue), place.step, item.reason, expires)
        if item.action is Action.PARK:
            task = item.delivery.message.task
            return ("park", keys.parked(queue), keys.parked_task(queue, task), place.step, task, "")
        return ("ack", "", "", "", "", "")

    def _result(self, result: Result | None) -> tuple[Any, ...]:
        if result is None:
            return (0,)
        guarded = int(result.state != "SUCCESS")
        key = result_key(self._broker.results_prefix, result.task_id)
        return (1, key, result.payload, milliseconds_of(result.expires), guarded)
