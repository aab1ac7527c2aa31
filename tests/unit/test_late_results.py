"""Results that wait for a sure lease, where the store is not the broker's: none is lost when the lease changes."""

from __future__ import annotations

import time
from pathlib import Path

from umbel import Umbel, chord
from umbel.message import new_id
from umbel.testing import InProcessWorker


def test_a_good_hold_of_a_new_lease_is_not_taken_for_one_of_the_old(tmp_path: Path) -> None:
    """What an executor reports after a lease was lost may be of a message that the new lease has brought."""
    name = new_id()
    app = Umbel("late", broker=f"memory://{name}", backend=f"sqlite:///{tmp_path}/results.db", set_as_current=False)

    def change_lease() -> None:
        board = worker._board  # pyright: ignore[reportPrivateUsage]
        board.begin_lease()
        board.lease_end = time.monotonic() + 60

    @app.task(name="late.double")
    def double(number: int) -> int:
        change_lease()
        return 2 * number

    @app.task(name="late.total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    with InProcessWorker(app) as worker:
        result = double.delay(21)
        body = chord([double.s(1), double.s(2)])(total.s())
        worker.drain()
        assert result.get(timeout=1) == 42
        assert body.get(timeout=1) == 6
    app.close()
