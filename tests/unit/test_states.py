"""States and which of two is the later one."""

from __future__ import annotations

import itertools

from umbel import states
from umbel.backends import base
from umbel.states import precedence, state


def test_sets_of_states() -> None:
    assert states.READY_STATES == base.READY_STATES == {"SUCCESS", "FAILURE", "REVOKED"}
    assert not states.READY_STATES & states.UNREADY_STATES
    assert states.PROPAGATE_STATES | {"RETRY"} == states.EXCEPTION_STATES
    assert states.READY_STATES < states.ALL_STATES


def test_later_states_are_greater() -> None:
    order = ["PENDING", "RETRY", "REJECTED", "RECEIVED", "STARTED", "REVOKED", "own", "FAILURE", "SUCCESS"]
    for earlier, later in itertools.pairwise(order):
        assert state(earlier) < state(later) and state(later) > state(earlier)
        assert state(earlier) <= later and state(later) >= earlier and not state(earlier) > later
    assert precedence("SUCCESS") == 0 and precedence("own") == precedence("other") == precedence(None)
    assert state("own") >= "other" and state("own") <= "other" and state("STARTED") == "STARTED"
