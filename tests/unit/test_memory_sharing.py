"""Drivers that ask those of another process have an answer for every call."""

import inspect

import pytest

from umbel.backends.memory import MemoryBackend
from umbel.brokers.memory import MemoryBroker
from umbel.testing.memory_sharing import ForwardingBackend, ForwardingBroker

LOCAL = {
    ForwardingBroker: {"after_fork", "close", "send", "stores_results_of"},
    ForwardingBackend: {
        "after_fork",
        "close",
        "decode_part",
        "encode",
        "encode_part",
        "on_publish",
        "prepare",
        "revocations",
    },
}
"""What needs nothing of the other process; ``send`` is for the memory's own use."""


@pytest.mark.parametrize(
    ("forwarding", "memory"), [(ForwardingBroker, MemoryBroker), (ForwardingBackend, MemoryBackend)]
)
def test_every_call_is_passed_on_or_needs_nothing_of_the_other_process(forwarding: type, memory: type) -> None:
    calls = {name for name, _ in inspect.getmembers(memory, inspect.isfunction) if not name.startswith("_")}
    own = {name for name in calls if getattr(forwarding, name) is not getattr(memory, name)}
    assert calls - own == LOCAL[forwarding]
