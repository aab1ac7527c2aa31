"""Which limits a message has: the call's, else the task's, else the worker's."""

from __future__ import annotations

from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import ConfigurationError
from umbel.message import Headers, Message, encode_headers
from umbel.worker.time_limits import TimeLimits, refuse_hard_limits


def message(task: str, timelimit: Any = (None, None), headers: bytes | None = None) -> Message:
    made = headers or encode_headers(Headers(task=task, id="1", timelimit=timelimit))
    return Message(id="1", task=task, queue="q", headers=made, body=b"")


@pytest.fixture
def app() -> Umbel:
    app = Umbel("limits", broker="memory://", set_as_current=False)

    @app.task(name="plain")
    def plain() -> None: ...

    @app.task(name="both", time_limit=20, soft_time_limit=10)
    def both() -> None: ...

    @app.task(name="soft", soft_time_limit=5)
    def soft() -> None: ...

    app.finalize()
    return app


@pytest.mark.parametrize(
    ("task", "call", "settings", "limits"),
    [
        ("plain", (None, None), (None, None), None),
        ("plain", (3, None), (None, None), (3, None)),
        ("plain", (None, 0.5), (None, None), (None, 0.5)),
        ("plain", (None, None), (60, 50), (60, 50)),
        ("plain", (3, None), (60, 50), (3, 50)),
        ("both", (None, None), (60, 50), (20, 10)),
        ("both", (None, 1), (60, 50), (20, 1)),
        ("soft", (None, None), (60, 50), (60, 5)),
        ("soft", (2, 1), (60, 50), (2, 1)),
    ],
)
def test_the_nearest_limit_wins(app: Umbel, task: str, call: Any, settings: Any, limits: Any) -> None:
    app.conf.task_time_limit, app.conf.task_soft_time_limit = settings
    assert TimeLimits(app).of(message(task, call)) == limits


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        (b'{"task": "soft", "id": "1", "timelimit": [null, null]}', (None, 5)),
        (b'{"task": "soft", "id": "1", "timelimit": [9, null]}', (9, 5)),
        (b'{"task": "soft", "id": "1", "timelimit": null}', (None, 5)),
        (b'{"task": "soft", "id": "1"}', (None, 5)),
        (b'{"task": "soft", "id": "1", "timelimit": "soon"}', (None, 5)),
    ],
)
def test_headers_of_others_are_understood(app: Umbel, headers: bytes, limits: Any) -> None:
    assert TimeLimits(app).of(message("soft", headers=headers)) == limits


def test_what_a_call_asks_for_travels_hard_limit_first(app: Umbel) -> None:
    sent: list[Message] = []
    app.publish = lambda messages, *rest: sent.extend(messages)  # type: ignore[method-assign]
    app.tasks["plain"].apply_async(time_limit=30, soft_time_limit=20)
    assert b'"timelimit":[30,20]' in sent[0].headers


def test_hard_limits_that_cannot_be_enforced_are_refused(app: Umbel) -> None:
    with pytest.raises(ConfigurationError, match="time_limit of both"):
        refuse_hard_limits(app, "solo")
    app.conf.task_time_limit = 3
    with pytest.raises(ConfigurationError, match=r"task_time_limit \(3 s\)"):
        refuse_hard_limits(app, "solo")
    refuse_hard_limits(Umbel("none", broker="memory://", set_as_current=False), "solo")
