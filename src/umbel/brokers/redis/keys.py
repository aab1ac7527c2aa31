"""Names of the keys that Umbel uses in Redis; every name has the application's key prefix in front.

Celery's: ``<queue>`` and ``<queue>\\x06\\x163|6|9`` (lists by priority, LPUSH in, RPOP out), ``_kombu.binding.*``,
``unacked`` (hash).
A message whose delivery failed has a space in front of its envelope for each time.

Umbel's own all begin with ``umbel.``:

====================================  ======  ==================================================================
``umbel.queues``                      hash    queue → how it is bound, JSON
``umbel.consumers``                   zset    consumer id → end of its lease (server time)
``umbel.consumer.<id>``               hash    ``lists`` (JSON), ``name``, ``lease``, ``alive`` until the lease ends;
                                              last calls, for lost answers
``umbel.held.<id>``                   hash    tag → envelope: what the consumer holds
``umbel.landing.<id>.<list>``         list    what a blocking wait of the consumer took
``umbel.ghosts``                      zset    reaped consumers → when; a late wait may still land something
``umbel.delayed.<queue>``             zset    priority step + unique text + envelope → due time
``umbel.dead.<queue>``                zset    dead letter id → when
``umbel.dead_letters.<queue>``        hash    dead letter id → JSON line + envelope
``umbel.parked.<queue>``              hash    task name → how many
``umbel.parked.<queue>\\x06\\x16<task>``  list    priority step + envelope
``umbel.deliveries``                  hash    SHA-1 of an envelope → failed deliveries; empty in normal life
``umbel.publisher.<uuid>``            string  number of the last publication; lives 300 s
``umbel.lock.<name>``                 string  token of the holder
``umbel.revocations``                 zset    when it ends (ms) + JSON record → when it was noted (µs); expires
====================================  ======  ==================================================================
"""

from __future__ import annotations

from msgspec import Struct

SEPARATOR = "\x06\x16"
STEPS = (0, 3, 6, 9)
"""Priorities that have a list of their own; others go to the next lower one."""

UNIQUE = 16
"""Characters that make a delayed message differ from its copy."""

RETURNED = "<"
"""The first of them where a consumer has put the message back: it has stood in its queue before, and returns to its
front. Others are hexadecimal."""


def step_of(priority: int) -> int:
    """The step in which a message of this priority is kept."""
    return 0 if priority < 3 else 3 if priority < 6 else 6 if priority < 9 else 9


class Source(Struct, frozen=True):
    """A list that is consumed."""

    key: str
    queue: str
    step: int


class Keys(Struct, frozen=True):
    """Key names under one prefix."""

    prefix: str = ""

    def ready(self, queue: str, step: int) -> str:
        return f"{self.prefix}{queue}{SEPARATOR}{step}" if step else self.prefix + queue

    def lists(self, queue: str) -> list[str]:
        return [self.ready(queue, step) for step in STEPS]

    def binding(self, exchange: str) -> str:
        return f"{self.prefix}_kombu.binding.{exchange}"

    def binding_permanent(self, exchange: str) -> str:
        return f"{self.prefix}_kombu.binding_permanent.{exchange}"

    def fanout(self, db: int, exchange: str, routing_key: str) -> str:
        """The channel of a fan-out message."""
        return f"{self.prefix}/{db}.{exchange}" + (f"/{routing_key}" if routing_key else "")

    @property
    def queues(self) -> str:
        return f"{self.prefix}umbel.queues"

    @property
    def celery_unacked(self) -> str:
        """The hash in which Celery's workers note what they hold."""
        return f"{self.prefix}unacked"

    @property
    def consumers(self) -> str:
        return f"{self.prefix}umbel.consumers"

    def consumer(self, consumer: str) -> str:
        return f"{self.prefix}umbel.consumer.{consumer}"

    def held(self, consumer: str) -> str:
        return f"{self.prefix}umbel.held.{consumer}"

    def landing(self, consumer: str, index: int) -> str:
        return f"{self.prefix}umbel.landing.{consumer}.{index}"

    def delayed(self, queue: str) -> str:
        return f"{self.prefix}umbel.delayed.{queue}"

    def dead(self, queue: str) -> str:
        return f"{self.prefix}umbel.dead.{queue}"

    def dead_letters(self, queue: str) -> str:
        return f"{self.prefix}umbel.dead_letters.{queue}"

    def parked(self, queue: str) -> str:
        return f"{self.prefix}umbel.parked.{queue}"

    def parked_task(self, queue: str, task: str) -> str:
        return f"{self.prefix}umbel.parked.{queue}{SEPARATOR}{task}"

    def publisher(self, publisher: str) -> str:
        return f"{self.prefix}umbel.publisher.{publisher}"

    @property
    def revocations(self) -> str:
        return f"{self.prefix}umbel.revocations"

    def lock(self, name: str) -> str:
        return f"{self.prefix}umbel.lock.{name}"
