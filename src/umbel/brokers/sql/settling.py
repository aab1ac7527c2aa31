"""The settle transaction: a whole batch of work ends, and the next is claimed, in one commit.

First the consumer's row is locked and the batch numbered there; then every message that is still held is removed or
changed, results and follow-ups of exactly these are written, and new messages are claimed. When the answer is lost,
the number tells the repeated call whether the batch was committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from umbel.brokers.base import Action, Settlement
from umbel.brokers.sql.database import Link
from umbel.brokers.sql.dialects import Dialect
from umbel.brokers.sql.faults import Conflict
from umbel.brokers.sql.rows import Row, Tag
from umbel.errors import OperationalError

if TYPE_CHECKING:
    from umbel.brokers.sql.broker import SQLBroker


class Holds:
    """What a consumer knows of its lease: the messages it was told of, and the batches it settled."""

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self.told: dict[int, int] = {}
        """The number of the claim by which each row is held."""
        self.batch = 0
        self._claims = 0
        self._doubtful: tuple[int, set[Tag], set[Tag]] | None = None
        self._unheard: dict[Tag, bool] = {}
        """What was settled by batches whose answer was lost; false: it was stale."""

    @property
    def in_doubt(self) -> bool:
        """Whether the answer to the last batch was lost."""
        return self._doubtful is not None

    def tell(self, rows: Iterable[int]) -> int:
        """Note that the consumer is told of these rows; the number of the claim."""
        self._claims += 1
        self.told |= dict.fromkeys(rows, self._claims)
        return self._claims

    def doubt(self, batch: int, done: set[Tag], stale: set[Tag]) -> None:
        """The answer to ``batch`` was lost. A batch before it that is still in doubt was then not followed by it."""
        if self._doubtful is None:
            self._doubtful = (batch, done, stale)

    def resolve(self, last: Callable[[], int | None]) -> None:
        """Find out what became of a doubtful batch; ``last`` reads the number of the last one committed."""
        if self._doubtful is None:
            return
        batch, done, stale = self._doubtful
        if last() == batch:
            self._unheard |= dict.fromkeys(done, True) | dict.fromkeys(stale, False)
            self.forget(done)
        self._doubtful = None

    def before(self, tag: Tag) -> bool | None:
        """How a delivery was settled before: true done, false too late, None not at all."""
        lease, row, claim = tag
        if lease == self.lease and self.told.get(row) == claim:
            return None
        return self._unheard.get(tag, False)

    def forget(self, tags: Iterable[Tag]) -> None:
        """These are no longer held."""
        for lease, row, claim in tags:
            if lease == self.lease and self.told.get(row) == claim:
                del self.told[row]

    def reported(self, tags: Iterable[Tag]) -> None:
        """The consumer has been told how these ended."""
        if self._unheard:
            for tag in tags:
                self._unheard.pop(tag, None)


def settle_batch(
    link: Link, broker: SQLBroker, holds: Holds, settlements: Sequence[Settlement], pick: Callable[[], list[Row]]
) -> tuple[list[Settlement], list[Row]]:
    """Settle, then ``pick`` new rows, in one transaction; the settlements that came too late, and the rows."""
    dialect = broker.dialect
    numbered = link.database.kind != "sqlite"
    results = any(settlement.result is not None for settlement in settlements)
    if results:
        broker.results.set_up(link)
    parted = any(settlement.parts for settlement in settlements)
    if parted:
        broker.chords.set_up(link)
    routed = {id(settlement): broker.rows_of(settlement.publish) for settlement in settlements if settlement.publish}
    chords = {part.chord: part.then for settlement in settlements for part in settlement.parts}
    finishing = {chord: broker.rows_of([message]) for chord, message in chords.items()}
    wanted = [*routed.values(), *finishing.values()]
    broker.routes.know(link, broker.routes.unknown(row[0] for rows in wanted for row in rows))
    batch = holds.batch = holds.batch + 1
    ended: list[Settlement] = []
    late: list[Settlement] = []
    try:
        with link.transaction():
            if numbered:
                holds.resolve(lambda: dialect.last_batch(link, holds.lease))
            if not dialect.number_batch(link, holds.lease, batch):
                return [s for s in settlements if holds.before(s.delivery.tag) is not True], []
            ended = _fresh(holds, settlements, late)
            ours = _end(link, dialect, holds.lease, ended)
            if len(ours) < len(ended):
                late += [settlement for settlement in ended if _row(settlement) not in ours]
                ended = [settlement for settlement in ended if _row(settlement) in ours]
            if results:
                broker.results.write(link, [s.result for s in ended if s.result is not None])
            follow_ups = [row for settlement in ended for row in routed.get(id(settlement), ())] if routed else []
            if parted:
                parts = [part for settlement in ended for part in settlement.parts]
                complete = broker.chords.add(link, parts, once=True)
                follow_ups += [row for part in complete for row in finishing[part.chord]]
            if follow_ups:
                broker.add(link, follow_ups)
            rows = pick()
    except Conflict:
        raise
    except OperationalError:
        if numbered:
            holds.doubt(batch, _tags(ended), _tags(late))
        raise
    tags = [settlement.delivery.tag for settlement in settlements]
    holds.forget(tags)
    holds.reported(tags)
    return late, rows


def _row(settlement: Settlement) -> int:
    return settlement.delivery.tag[1]


def _tags(settlements: Iterable[Settlement]) -> set[Tag]:
    return {settlement.delivery.tag for settlement in settlements}


def _fresh(holds: Holds, settlements: Sequence[Settlement], late: list[Settlement]) -> list[Settlement]:
    """Settlements of what is held as far as is known here; those that are too late go to ``late``."""
    fresh: list[Settlement] = []
    seen: set[Tag] = set()
    for settlement in settlements:
        tag: Tag = settlement.delivery.tag
        before = False if tag in seen else holds.before(tag)
        seen.add(tag)
        if before is None:
            fresh.append(settlement)
        elif not before:
            late.append(settlement)
    return fresh


def _end(link: Link, dialect: Dialect, lease: int, fresh: Sequence[Settlement]) -> set[int]:
    """Remove or change the messages that are still held; their rows."""
    acked = [_row(settlement) for settlement in fresh if settlement.action is Action.ACK]
    others = [settlement for settlement in fresh if settlement.action is not Action.ACK]
    ours = dialect.remove_held(link, lease, acked) if acked else set[int]()
    if others:
        ours |= dialect.hold(link, lease, [_row(settlement) for settlement in others])
    for settlement in others:
        row = _row(settlement)
        if row not in ours:
            continue
        if settlement.action is Action.REQUEUE:
            dialect.requeue(link, row, settlement.delay, settlement.count)
        elif settlement.action is Action.DEAD_LETTER:
            dialect.bury(link, row, settlement.reason, settlement.count)
        else:
            dialect.park(link, row)
    if any(settlement.action is Action.REQUEUE for settlement in others):
        dialect.announce(link)
    return ours
