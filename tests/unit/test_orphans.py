"""A message that comes back to the worker that ran it need not run again."""

from __future__ import annotations

from umbel.brokers.base import Action, Delivery, Settlement
from umbel.message import Headers, Message, encode_headers
from umbel.worker.job import Job
from umbel.worker.orphans import Orphans


def delivery(tag: str, identity: str = "a", retries: int = 0) -> Delivery:
    headers = encode_headers(Headers(task="t", id=identity, retries=retries))
    return Delivery(tag, "celery", Message(id=identity, task="t", queue="celery", headers=headers, body=b""))


def test_a_running_job_takes_its_new_delivery_over() -> None:
    orphans = Orphans()
    job = Job(1, delivery("old"), 0.0)
    orphans.lose(job)
    assert job.lost
    new = delivery("new")
    assert orphans.adopt(new) is job
    assert job.delivery is new
    assert not job.lost
    assert not orphans


def test_a_finished_one_is_settled_with_the_new_delivery() -> None:
    orphans = Orphans()
    refused = Settlement(delivery("old"))
    orphans.remember(refused)
    new = delivery("new")
    adopted = orphans.adopt(new)
    assert isinstance(adopted, Settlement)
    assert adopted.delivery is new
    assert not orphans


def test_another_attempt_of_the_same_task_is_not_the_same_message() -> None:
    orphans = Orphans()
    orphans.lose(Job(1, delivery("old"), 0.0))
    orphans.remember(Settlement(delivery("old", "b")))
    assert orphans.adopt(delivery("new", retries=1)) is None
    assert orphans.adopt(delivery("new", "b", retries=1)) is None


def test_what_was_not_acknowledged_is_not_remembered() -> None:
    orphans = Orphans()
    orphans.remember(Settlement(delivery("old"), Action.REQUEUE))
    assert orphans.adopt(delivery("new")) is None


def test_an_ended_job_is_forgotten() -> None:
    orphans = Orphans()
    job = Job(1, delivery("old"), 0.0)
    orphans.lose(job)
    orphans.end(job)
    assert orphans.adopt(delivery("new")) is None


def test_what_was_to_be_kept_with_a_refused_settlement_is_sent_when_it_is_made_anew() -> None:
    orphans = Orphans()
    kept = delivery("kept", "b")
    orphans.remember(Settlement(delivery("old"), publish=(kept.message,), keep=(kept,)))
    adopted = orphans.adopt(delivery("new"))
    assert isinstance(adopted, Settlement)
    assert adopted.keep == ()
    assert adopted.publish == (kept.message,)
