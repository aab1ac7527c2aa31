"""Signals by themselves: who is called, with what, and who is not."""

from __future__ import annotations

import gc
import logging
import threading
import uuid
from typing import Any

import pytest

from umbel import Umbel, shared_task, signals
from umbel.signals import Signal

CELERY = {
    "before_task_publish": {"body", "declare", "exchange", "headers", "properties", "retry_policy", "routing_key"},
    "after_task_publish": {"body", "exchange", "headers", "routing_key"},
    "task_sent": {"args", "eta", "kwargs", "task", "task_id", "taskset"},
    "task_prerun": {"args", "kwargs", "task", "task_id"},
    "task_postrun": {"args", "kwargs", "retval", "state", "task", "task_id"},
    "task_success": {"result", "runtime"},
    "task_retry": {"einfo", "reason", "request"},
    "task_failure": {"args", "einfo", "exception", "kwargs", "task_id", "traceback"},
    "task_internal_error": {"args", "einfo", "exception", "kwargs", "request", "task_id", "traceback"},
    "task_received": {"request"},
    "task_revoked": {"expired", "request", "signum", "terminated"},
    "task_unknown": {"exc", "id", "message", "name"},
    "task_rejected": {"exc", "message"},
    "import_modules": set(),
    "celeryd_init": {"conf", "instance", "options"},
    "celeryd_after_setup": {"conf", "instance"},
    "worker_init": set(),
    "worker_before_create_process": set(),
    "worker_process_init": set(),
    "worker_process_shutdown": {"exitcode", "pid"},
    "worker_ready": set(),
    "heartbeat_sent": set(),
    "worker_shutting_down": {"exitcode", "how", "sig"},
    "worker_shutdown": set(),
    "beat_init": set(),
    "beat_embedded_init": set(),
    "eventlet_pool_started": set(),
    "eventlet_pool_preshutdown": set(),
    "eventlet_pool_postshutdown": set(),
    "eventlet_pool_apply": {"args", "kwargs", "target"},
    "setup_logging": {"colorize", "format", "logfile", "loglevel"},
    "after_setup_logger": {"colorize", "format", "logfile", "logger", "loglevel"},
    "after_setup_task_logger": {"colorize", "format", "logfile", "logger", "loglevel"},
    "user_preload_options": {"app", "options"},
}


class Recorder:
    """A receiver that keeps what it got."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **named: Any) -> int:
        self.calls.append(named)
        return len(self.calls)

    def method(self, **named: Any) -> None:
        self.calls.append(named)


@pytest.fixture
def signal() -> Signal:
    return Signal(["value"], name="thing_happened")


def test_every_signal_that_celery_documents_exists_with_its_arguments() -> None:
    found = {name: set(each.providing_args) for name, each in vars(signals).items() if isinstance(each, Signal)}
    assert found == CELERY
    assert set(signals.__all__) == {*CELERY, "Signal"}
    assert all(getattr(signals, name).name == name for name in CELERY)


def test_receivers_get_signal_sender_and_arguments_in_the_order_of_connection(signal: Signal) -> None:
    first, second = Recorder(), Recorder()
    assert signal.connect(first) is first
    signal.connect(second)
    responses = signal.send(sender="me", value=3)
    assert responses == [(first, 1), (second, 1)]
    assert first.calls == [{"signal": signal, "sender": "me", "value": 3}]


def test_connect_is_a_decorator_with_and_without_arguments(signal: Signal) -> None:
    heard: list[str] = []

    @signal.connect
    def every(**kwargs: Any) -> None:
        heard.append("every")

    @signal.connect(sender="a", weak=False)
    def only_a(sender: str, **kwargs: Any) -> None:
        heard.append(f"only {sender}")

    signal.send("b")
    signal.send("a")
    assert heard == ["every", "every", "only a"]
    assert (every.__name__, only_a.__name__) == ("every", "only_a")


def test_an_error_is_logged_and_takes_the_place_of_the_response(
    signal: Signal, caplog: pytest.LogCaptureFixture
) -> None:
    after = Recorder()

    @signal.connect
    def fails(**kwargs: Any) -> None:
        raise ValueError("no luck")

    @signal.connect
    def leaves(**kwargs: Any) -> None:
        raise SystemExit(3)

    signal.connect(after)
    with caplog.at_level(logging.ERROR):
        responses = dict(signal.send())
    assert isinstance(responses[fails], ValueError) and isinstance(responses[leaves], SystemExit)
    assert responses[after] == 1
    assert "thing_happened" in caplog.text and "fails" in caplog.text and "no luck" in caplog.text


def test_an_interrupt_is_not_an_error_of_the_receiver(signal: Signal) -> None:
    @signal.connect
    def interrupted(**kwargs: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        signal.send()


def test_connecting_twice_is_connecting_once(signal: Signal) -> None:
    receiver, other = Recorder(), Recorder()
    signal.connect(receiver)
    signal.connect(receiver)
    signal.connect(receiver, sender="a")
    assert len(signal.send("a")) == 2 and len(signal.send("b")) == 1
    signal.connect(receiver, dispatch_uid="mine")
    signal.connect(other, dispatch_uid="mine")
    assert len(signal.send("b")) == 2 and not other.calls


def test_disconnect_says_whether_it_was_connected(signal: Signal) -> None:
    receiver = Recorder()
    signal.connect(receiver, sender="a")
    assert not signal.disconnect(receiver)
    assert signal.disconnect(receiver, sender="a")
    assert not signal.disconnect(receiver, sender="a")
    signal.connect(receiver, dispatch_uid="mine")
    assert not signal.disconnect(receiver)
    assert signal.disconnect(dispatch_uid="mine")
    assert signal.receivers == () and not signal.send("a")


def test_has_listeners_asks_for_a_sender(signal: Signal) -> None:
    assert not signal.has_listeners()
    signal.connect(Recorder(), sender="a")
    assert signal.has_listeners("a") and not signal.has_listeners("b") and not signal.has_listeners()


def test_methods_go_with_their_object_and_functions_stay(signal: Signal) -> None:
    calls: list[str] = []
    recorder = Recorder()

    def connect_nested() -> None:
        @signal.connect
        def nested(**kwargs: Any) -> None:
            calls.append("nested")

        @signal.connect(weak=True)
        def weak(**kwargs: Any) -> None:
            calls.append("weak")

    connect_nested()
    signal.connect(recorder.method)
    kept = Recorder()
    signal.connect(kept.method, weak=False)
    found = kept.calls
    assert len(signal.send()) == 3
    del recorder, kept
    gc.collect()
    assert len(signal.receivers) == 2
    signal.send()
    assert calls == ["nested", "nested"] and len(found) == 2


def test_a_failing_receiver_is_called_again_with_retry(signal: Signal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_FIRST_PAUSE", 0.001)
    attempts: list[int] = []

    @signal.connect(retry=True)
    def flaky(**kwargs: Any) -> str:
        attempts.append(1)
        if len(attempts) < 4:
            raise ConnectionError("not yet")
        return "well"

    assert signal.send() == [(flaky, "well")]
    assert len(attempts) == 4


def test_a_task_and_its_name_are_the_same_sender(signal: Signal) -> None:
    @shared_task(name="signals.shared")
    def shared() -> None: ...

    with Umbel("signals", broker=f"memory://{uuid.uuid4()}") as app:

        @app.task
        def own() -> None: ...

        heard = {name: Recorder() for name in ("object", "name", "shared", "other")}
        signal.connect(heard["object"], sender=own)
        signal.connect(heard["name"], sender=own.name)
        signal.connect(heard["shared"], sender=shared)
        signal.connect(heard["other"], sender="signals.nobody")
        signal.send(own)
        signal.send(own.name)
        signal.send(app.tasks["signals.shared"])
        assert {name: len(each.calls) for name, each in heard.items()} == {
            "object": 2,
            "name": 2,
            "shared": 1,
            "other": 0,
        }


@pytest.mark.parametrize(
    ("receiver", "error", "words"),
    [
        (3, TypeError, "must be callable, not int"),
        (lambda sender: None, ValueError, "add \\*\\*kwargs"),
    ],
)
def test_what_cannot_receive_is_refused(signal: Signal, receiver: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        signal.connect(receiver)
    assert signal.receivers == ()


def test_a_coroutine_function_is_refused(signal: Signal) -> None:
    async def receive(**kwargs: Any) -> None: ...

    with pytest.raises(TypeError, match="coroutine function"):
        signal.connect(receive)


def test_connecting_while_others_send(signal: Signal) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def send() -> None:
        try:
            while not stop.is_set():
                signal.send()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        receiver = Recorder()
        signal.connect(receiver)
        assert signal.disconnect(receiver)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and signal.receivers == ()
