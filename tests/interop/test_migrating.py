"""Messages of a real Celery's client, moved by Umbel, are run by a real Celery's worker."""

from __future__ import annotations

from interop.rig import TIMEOUT, Rig
from umbel.migrating import move_tasks


def test_a_celery_message_is_still_one_after_it_was_moved(both: Rig) -> None:
    client, app = both.celery_client(), both.umbel_client()
    stays = client.delay("shared.add", 1, 1)
    options = {"serializer": "json", "compression": "zlib", "priority": 3, "queue": "celery"}
    moved = client.send("shared.add", ["grün", " é中😀"], **options)
    assert move_tasks(app, "moved", ids={moved}).moved == 1
    both.celery_worker("-Q", "moved")
    assert client.get(moved, timeout=TIMEOUT)["value"] == "grün é中😀"
    assert [message.id for message in app.broker.peek("celery")] == [stays]
