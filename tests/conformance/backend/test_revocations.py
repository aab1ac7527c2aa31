"""Revocations in the result store, for brokers that can keep none."""

from __future__ import annotations

from conformance.backend.conftest import Connect
from conformance.drivers import Driver
from umbel.backends.base import Backend
from umbel.message import new_id
from umbel.revocations import records_of


def test_servers_that_store_results_keep_revocations(driver: Driver, backend: Backend, connect: Connect) -> None:
    store, other = backend.revocations(), connect().revocations()
    if driver.place in ("memory", "rabbitmq"):
        assert store is None
        return
    assert store is not None
    assert other is not None
    mark, _ = other.since(0.0)
    task = new_id()
    store.note(records_of([task]), 60.0)
    assert [each.revocation.task_ids for each in other.since(mark)[1] if task in each.revocation.task_ids] == [(task,)]
