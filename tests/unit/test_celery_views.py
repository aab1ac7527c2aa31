"""What an application shows of itself under Celery's names: queues, routes, connections, modules, log, programs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click import UsageError

import umbel
from umbel import Umbel
from umbel.errors import ConfigurationError, OperationalError, UnroutableMessage
from umbel.execution import execute_message
from umbel.queues import Queue
from umbel.task import Task


def make(**settings: Any) -> Umbel:
    place = f"memory://{uuid.uuid4()}"
    return Umbel("views", **{"broker": place, "backend": place, "set_as_current": False, **settings})


@pytest.fixture
def app() -> Iterator[Umbel]:
    with make() as made:
        yield made


# -- configuration ---------------------------------------------------------------------------------


def test_configuration_is_told_once_when_the_first_setting_is_read(app: Umbel) -> None:
    told: list[Any] = []

    @app.on_configure.connect
    def before(sender: Umbel, **kwargs: Any) -> None:
        sender.conf.task_serializer = "pickle"
        told.append("on_configure")

    @app.on_after_configure.connect
    def after(sender: Umbel, source: Any, **kwargs: Any) -> None:
        told.append(("on_after_configure", source is app.conf, source.task_serializer, sender.finalized))

    @app.on_after_finalize.connect
    def finalized(sender: Umbel, **kwargs: Any) -> None:
        told.append(("on_after_finalize", "views.work" in sender.tasks))

    app.make_task(lambda: None, name="views.work")
    app.conf.task_compression = "gzip"
    app.conf.update(task_default_priority=3)
    app.config_from_object({"enable_utc": False})
    app.add_defaults({"task_default_queue": "other"})
    app.autodiscover_tasks(["nowhere"])
    app.add_periodic_task(1.0, app.signature("x"), name="x")
    assert told == []
    assert app.conf["task_serializer"] == "pickle" and app.conf.task_default_queue == "other"
    configured = ["on_configure", ("on_after_configure", True, "pickle", False)]
    assert told == configured
    app.config_from_object({"enable_utc": True})
    assert app.conf.enable_utc is True and told == configured
    app.finalize()
    app.finalize()
    assert told == [*configured, ("on_after_finalize", True)]


def test_the_tasks_need_the_settings(app: Umbel) -> None:
    told: list[bool] = []
    app.on_after_configure.connect(lambda sender, **kwargs: told.append(sender.finalized))
    app.finalize()
    assert told == [False]


def test_configuration_with_force_is_read_and_told_at_once(app: Umbel) -> None:
    told: list[Any] = []
    app.on_after_configure.connect(lambda source, **kwargs: told.append(source.task_compression))
    app.config_from_object({"task_compression": "gzip"}, force=True)
    assert told == ["gzip"]


def test_who_connects_when_the_settings_are_read_is_told_with_the_tasks(app: Umbel) -> None:
    told: list[str] = []
    app.on_after_configure.connect(lambda **kwargs: told.append("early"))
    assert app.conf.task_serializer == "json" and told == ["early"]

    @app.on_after_configure.connect
    def late(sender: Umbel, signal: Any, source: Any, **kwargs: Any) -> None:
        assert (signal, source, sender.finalized) == (app.on_after_configure, app.conf, False)
        told.append("late")

    app.finalize()
    app.on_after_configure.connect(lambda **kwargs: told.append("too late"))
    assert app.tasks and told == ["early", "late"]


def test_settings_that_cannot_be_read_are_told_of_when_they_can(app: Umbel) -> None:
    told: list[str] = []
    app.on_configure.connect(lambda **kwargs: told.append("before"))
    app.on_after_configure.connect(lambda **kwargs: told.append("after"))
    app.config_from_object("no.such.module")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"no\.such"):
            _ = app.conf.task_serializer
    with pytest.raises(ConfigurationError, match=r"no\.such"):
        app.finalize()
    assert told == ["before"] * 3 and not app.finalized


def test_settings_first_read_by_many_threads_are_told_of_once(app: Umbel) -> None:
    told: list[str] = []
    app.on_after_configure.connect(lambda source, **kwargs: told.append(source.task_serializer))
    threads = [threading.Thread(target=lambda: app.conf.task_serializer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["json"]


def test_a_receiver_may_use_the_tasks_while_they_are_configured(app: Umbel) -> None:
    seen: list[str] = []

    @app.on_after_configure.connect
    def after(sender: Umbel, **kwargs: Any) -> None:
        seen.append(sender.tasks["views.work"].name)

    app.make_task(lambda: None, name="views.work")
    assert app.tasks["views.work"].name == "views.work" and seen == ["views.work"]


def test_periodic_tasks_are_entries_of_the_schedule(app: Umbel) -> None:
    app.conf.beat_schedule = {"old": {"task": "x", "schedule": 1}}
    add = app.make_task(lambda x, y: x + y, name="views.add")

    @app.on_after_configure.connect
    def setup(sender: Umbel, **kwargs: Any) -> None:
        sender.add_periodic_task(10.0, add.s(2), args=(1,), name="ten")
        assert sender.add_periodic_task(5.0, add, (3, 4), expires=7) == "views.add(3, 4)"

    app.finalize()
    assert app.conf.beat_schedule == {
        "old": {"task": "x", "schedule": 1},
        "ten": {"task": "views.add", "schedule": 10.0, "args": (1, 2), "kwargs": {}, "options": {}},
        "views.add(3, 4)": {
            "task": "views.add", "schedule": 5.0, "args": (3, 4), "kwargs": {}, "options": {"expires": 7},
        },
    }  # fmt: skip


def test_periodic_tasks_added_early_wait_for_the_configuration(app: Umbel) -> None:
    app.add_periodic_task(1.0, app.signature("x"), name="early")
    assert set(app.conf.beat_schedule) == {"early"}
    app.add_periodic_task(2.0, app.signature("x"), name="late")
    assert set(app.conf.beat_schedule) == {"early", "late"}


def test_settings_as_tables(app: Umbel) -> None:
    app.conf.update(redis_password="hunter2", task_acks_late=False)
    assert app.conf.table()["task_acks_late"] is False and "task_serializer" not in app.conf.table()
    assert "hunter2" not in app.conf.humanize() and "hunter2" in app.conf.humanize(censored=False)
    assert "task_serializer: 'json'" in app.conf.humanize(with_defaults=True)
    assert app.conf.value_set_for("task_acks_late") and not app.conf.value_set_for("task_serializer")
    assert app.conf.without_defaults() == app.conf.changed()


def test_either_takes_the_first_that_is_given(app: Umbel) -> None:
    assert app.either("task_serializer", None, 0, "x") == 0
    assert app.either("task_serializer", None) == "json"
    assert app.annotations == []
    app.conf.task_annotations = {"*": {"rate_limit": "1/s"}}
    assert app.annotations == [{"*": {"rate_limit": "1/s"}}]


# -- tasks -----------------------------------------------------------------------------------------


def test_names_of_tasks_may_be_generated_by_the_application() -> None:
    class Short(Umbel):
        def gen_task_name(self, name: str, module: str) -> str:
            return super().gen_task_name(name, module.rpartition(".")[2].removeprefix("test_"))

    app = Short("views", broker="memory://n", set_as_current=False)

    @app.task
    def work() -> None: ...

    assert work.name == "celery_views.work"


def test_without_autofinalize_tasks_are_used_after_finalize_only() -> None:
    app = make(autofinalize=False)
    app.make_task(lambda: None, name="views.work")
    with pytest.raises(RuntimeError, match="autofinalize"):
        _ = app.tasks
    app.send_task("views.work")
    app.finalize()
    assert "views.work" in app.tasks


def test_a_task_with_a_result_store_of_its_own_is_refused(app: Umbel) -> None:
    with pytest.raises(ConfigurationError, match="of its own"):
        app.make_task(lambda: None, name="views.work", backend="redis://")


def test_annotations_and_settings_of_a_class_of_tasks() -> None:
    class Slow(Task[..., Any]):
        from_config = (*Task.from_config, ("soft_time_limit", "task_soft_time_limit"))

        def annotate(self) -> None:
            super().annotate()
            self.max_retries = 9

    app = make(task_soft_time_limit=5, task_annotations={"views.slow": {"rate_limit": "3/m"}})
    slow = app.make_task(lambda: None, name="views.slow", base=Slow)
    app.finalize()
    assert (slow.soft_time_limit, slow.rate_limit, slow.max_retries) == (5, "3/m", 9)


def test_a_task_hears_what_replaces_it(app: Umbel) -> None:
    heard: list[str] = []

    class Replaced(Task[..., Any]):
        def on_replace(self, sig: Any) -> Any:
            heard.append(sig.task)
            return super().on_replace(sig)

    other = app.make_task(lambda x: x * 2, name="views.other")

    @app.task(base=Replaced, bind=True, name="views.replaced")
    def replaced(self: Any, x: int) -> Any:
        return self.replace(other.s(x))

    assert replaced.apply((4,)).get() == 8
    sent = replaced.delay(3)
    (message,) = app.broker.peek("celery")
    outcome = execute_message(app, message)
    assert outcome.state == "IGNORED" and heard == ["views.other", "views.other"]
    assert [(each.task, each.id) for each in outcome.publish] == [("views.other", sent.id)]


def test_a_trail_may_be_added_to_by_hand(app: Umbel) -> None:
    @app.task(bind=True, name="views.parent")
    def parent(self: Any) -> Any:
        return self.add_trail(app.AsyncResult("child")).id

    @app.task(bind=True, name="views.silent", trail=False)
    def silent(self: Any) -> Any:
        return self.add_trail(app.AsyncResult("child")).id, self.request.children

    assert silent.apply().get() == ("child", [])
    sent = parent.delay()
    outcome = execute_message(app, app.broker.peek("celery")[0])
    assert outcome.value == "child" and outcome.result is not None
    app.backend.store([outcome.result])
    assert sent.children == [app.AsyncResult("child")]


def test_a_request_can_be_cleared(app: Umbel) -> None:
    @app.task(bind=True, name="views.work")
    def work(self: Any) -> Any:
        self.request.mine = 1
        before = self.request.id, self.request.retries
        self.request.clear()
        return before, self.request.id, self.request.retries, self.request.get("mine"), self.request.called_directly

    work.push_request(id="x", retries=3)
    assert work.run() == (("x", 3), "", 0, None, True)
    work.pop_request()


# -- queues and routes -----------------------------------------------------------------------------


def test_queues_by_name() -> None:
    app = make(task_queues={"a": {"routing_key": "ka"}, "b": {}}, task_default_queue="a")
    queues = app.amqp.queues
    assert set(queues) == set(queues.consume_from) == {"a", "b"} and "c" not in queues
    assert queues["a"].routing_key == "ka" and queues["c"].name == "c"
    queues.add("d", exchange="x", exchange_type="topic", routing_key="k.#")
    assert (queues["d"].exchange.name, queues["d"].exchange.type, queues["d"].routing_key) == ("x", "topic", "k.#")
    assert [queue.name for queue in app.consume_queues()] == ["a", "b"]
    queues.deselect("b")
    assert list(queues.consume_from) == ["a"]
    queues.select(["b", "new"])
    queues.select_add(Queue("e"))
    assert [queue.name for queue in app.consume_queues()] == ["b", "new", "e"]
    assert [queue.name for queue in app.consume_queues(["a", "d", "e"], ["e"])] == ["a", "d"]
    app.select_queues()
    assert list(queues.consume_from) == ["b", "new", "e"]
    app.select_queues("d")
    assert app.consume_queues()[0].exchange.type == "topic"
    assert app.amqp.default_queue.name == app.amqp.default_exchange.name == "a"


def test_missing_queues_are_refused_where_they_must_not_be_made() -> None:
    app = make(task_queues={"a": {}}, task_default_queue="a", task_create_missing_queues=False)
    with pytest.raises(UnroutableMessage):
        app.amqp.queues["b"]
    app.select_queues("a,b")
    with pytest.raises(UnroutableMessage):
        app.consume_queues()


def test_routes_are_answered_with_queues() -> None:
    app = make(task_routes={"feeds.*": {"queue": "feeds", "priority": 3}})
    route = app.amqp.router.route
    assert route({}, "x")["queue"].name == "celery"
    found = route({"priority": 5, "queue": None}, "feeds.read", (1,), {})
    assert found == {"queue": app.amqp.queues["feeds"], "priority": 5}
    assert route({"queue": "other"}, "feeds.read")["queue"].name == "other"
    assert route({"exchange": "e", "routing_key": "k"}, "x")["queue"].name == "celery"
    assert app.amqp.routes == app.conf.task_routes and app.amqp.utc is True


def test_waiting_messages_are_purged(app: Umbel) -> None:
    for _ in range(3):
        app.send_task("x")
    assert app.control.purge() == 3 and app.control.discard_all() == 0


# -- connections -----------------------------------------------------------------------------------


def test_connections_say_how_long_queues_are(app: Umbel) -> None:
    app.send_task("x")
    with app.connection_or_acquire() as connection:
        assert not connection.connected and connection.ensure_connection(max_retries=1).connected
        channel = connection.default_channel
        assert channel.queue_declare(queue="celery", passive=True).message_count == 1
        assert channel.queue_declare("fresh").message_count == 0 and "fresh" in app.broker.queues()
        assert channel.queue_purge("celery") == 1
        channel.queue_delete("fresh")
        assert "fresh" not in app.broker.queues()
    assert app.connection_for_read().as_uri() == app.broker.url


def test_a_broker_that_is_not_there_is_told_in_time() -> None:
    app = make(broker="redis://user:hunter2@127.0.0.1:1/0", broker_connection_timeout=0.5)
    pauses: list[float] = []
    connection = app.connection_for_write()
    with pytest.raises(OperationalError):
        connection.ensure_connection(
            lambda error, pause: pauses.append(pause), max_retries=2, interval_start=0.01, interval_step=0.01
        )
    assert pauses == [0.01, 0.02] and not connection.connected
    with pytest.raises(OperationalError):
        connection.ensure_connection(interval_start=0.01, timeout=0.02)
    assert "hunter2" not in connection.as_uri() and "hunter2" in connection.as_uri(include_password=True)


def test_connections_and_producers_are_passed_on(app: Umbel) -> None:
    task = app.make_task(lambda: 1, name="views.work")
    with app.producer_or_acquire() as producer, app.pool.acquire(block=True) as connection:
        task.apply_async(producer=producer, connection=connection)
        assert app.producer_or_acquire(producer) is producer
        assert app.default_connection(connection) is connection
    with app.amqp.producer_pool.acquire(block=True) as producer:
        app.send_task("x", producer=producer)
    assert len(app.broker.peek("celery")) == 2


# -- programs --------------------------------------------------------------------------------------


def test_identities(app: Umbel) -> None:
    here = app.thread_oid
    others: list[str] = []
    thread = threading.Thread(target=lambda: others.append(app.thread_oid))
    thread.start()
    thread.join()
    assert app.oid == app.oid != make().oid and here == app.thread_oid and others != [here]


def test_a_fork_is_told(app: Umbel) -> None:
    told: list[Any] = []
    app.on_after_fork.connect(lambda sender, **kwargs: told.append(sender))
    before = app.oid
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            app.after_fork()
            os.write(writing, json.dumps([len(told), app.oid]).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    heard, oid = json.loads(os.read(reading, 1000))
    assert heard == 1 and oid != before and told == []


class Part:
    """A part."""

    app: Any = None
    size = 1


def test_classes_with_an_application(app: Umbel) -> None:
    made = app.subclass_with_self(Part, name="Mine", size=2)
    assert issubclass(made, Part) and made.__name__ == "Mine" and made.__doc__ == "A part."
    assert (made.app, made.size) == (app, 2)  # type: ignore[attr-defined]
    named = app.subclass_with_self("umbel.task:Task", attribute="owner")
    assert issubclass(named, Task) and named.owner is app  # type: ignore[attr-defined]


def test_modules_are_imported_by_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"module_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text("value = 5")
    app = make(include=[name])
    assert app.loader.default_modules == {name} and name not in sys.modules
    assert app.loader.import_default_modules() == [name] and app.loader.import_task_module(name).value == 5
    assert app.loader.conf is app.conf and app.loader.now(utc=False).tzinfo is None
    assert app.loader.config_from_object({"task_serializer": "yaml"}) and app.conf.task_serializer == "yaml"


LOGGING = """
import logging, sys
from umbel import Umbel
app = Umbel("x", broker="memory://l")
assert not app.log.already_setup
app.log.setup(loglevel="INFO", logfile=sys.argv[1], redirect_stdouts=True)
app.log.setup(loglevel="CRITICAL")
assert app.log.already_setup
app.log.get_default_logger("mine").info("informed")
logging.getLogger("mine").debug("debugged")
print("printed")
"""


def test_programs_log_as_workers_do(tmp_path: Path) -> None:
    file = tmp_path / "log"
    subprocess.run([sys.executable, "-c", LOGGING, file], check=True)
    text = file.read_text()
    assert "informed" in text and "printed" in text and "debugged" not in text
    assert logging.getLogger("umbel").level == logging.NOTSET


def test_commands_run_for_the_application(app: Umbel, capsys: pytest.CaptureFixture[str]) -> None:
    app.send_task("x")
    assert app.start(["queues", "--json"]) == 0
    assert '"celery"' in capsys.readouterr().out
    with pytest.raises(UsageError):
        app.start(["no-such-command"])
    with pytest.raises(ValueError, match="worker"):
        app.worker_main(["queues"])


PROGRAM = """
import os, signal, sys
from umbel import Umbel
from umbel.signals import worker_ready

app = Umbel("x", broker=sys.argv[1], backend=sys.argv[1])

@worker_ready.connect
def ready(**kwargs):
    os.kill(os.getpid(), signal.SIGTERM)

@app.task(name="add")
def add(x, y):
    return x + y

if __name__ == "__main__":
    add.delay(1, 2)
    status = app.worker_main(["worker", "-c", "1", "--loglevel", "ERROR", "-n", "embedded@%h"])
    print("ended", status)
"""


def test_a_program_runs_a_worker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program, f"sqlite:///{tmp_path / 'w.db'}"], capture_output=True, text=True, timeout=60
    )
    assert "ended 0" in done.stdout and "embedded@" in done.stderr, done.stderr


def test_bug_reports_have_no_secrets() -> None:
    app = make(redis_password="hunter2")
    text = app.bugreport()
    assert umbel.__version__ in text and "hunter2" not in text and "redis_password" in text
    assert umbel.bugreport(app) == text


# -- messages made by hand -------------------------------------------------------------------------


def test_a_message_made_by_hand_is_the_one_that_would_be_sent(app: Umbel) -> None:
    app.conf.task_routes = {"views.add": {"queue": "routed", "priority": 4}}
    sent = app.send_task("views.add", [1], {"k": "v"}, expires=60)
    made = app.amqp.create_task_message(
        sent.id, "views.add", [1], {"k": "v"}, expires=60, reply_to=app.reply_address(), ignore_result=None
    )
    app.amqp.send_task_message(None, "views.add", made)
    app.amqp.send_task_message(None, "views.add", made, queue="other", serializer="pickle", compression="gzip")
    usual, by_hand = app.broker.peek("routed")
    (other,) = app.broker.peek("other")
    headers = [json.loads(each.headers) for each in (usual, by_hand, other)]
    moments = [each.pop("expires") for each in headers]
    assert headers[0] == headers[1] and headers[2] == {**headers[0], "compression": "application/x-gzip"}
    assert all(moments) and other.content_type == "application/x-python-serialize"
    assert (by_hand.body, by_hand.priority, by_hand.reply_to) == (usual.body, 4, usual.reply_to)
    assert by_hand.expires == pytest.approx(usual.expires, abs=5)


def test_a_message_of_protocol_1_is_not_sent(app: Umbel) -> None:
    with pytest.raises(ConfigurationError, match="as_task_v2"):
        app.amqp.send_task_message(None, "views.add", app.amqp.as_task_v1("id", "views.add"))


# -- the log ---------------------------------------------------------------------------------------


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger(f"views.{uuid.uuid4()}")
    made.propagate = False
    yield made
    for handler in made.handlers[:]:
        made.removeHandler(handler)
        handler.close()


def test_what_is_printed_goes_to_a_logger(app: Umbel, logger: logging.Logger, tmp_path: Path) -> None:
    file, before = tmp_path / "log", (sys.stdout, sys.stderr)
    logger.handlers.clear()  # pytest's own
    assert app.log.setup_handlers(logger, str(file), "%(levelname)s %(message)s", False) is logger
    assert len(app.log.setup_handlers(logger, str(tmp_path / "never"), "", False).handlers) == 1
    try:
        proxy = app.log.redirect_stdouts_to_logger(logger, "ERROR", stderr=False)
        assert sys.stdout is proxy and sys.stderr is before[1]
        print("one\ntwo")
        app.log.redirect_stdouts_to_logger(logger, logging.CRITICAL, stdout=False)
        print("three", file=sys.stderr)
    finally:
        sys.stdout, sys.stderr = before
    assert file.read_text() == "ERROR one\nERROR two\nCRITICAL three\n"
    assert list(tmp_path.iterdir()) == [file]


def test_stdouts_go_to_the_named_logger(app: Umbel, capsys: pytest.CaptureFixture[str]) -> None:
    name, records = f"views.{uuid.uuid4()}", list[logging.LogRecord]()
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger(name).addHandler(handler)
    before = sys.stdout, sys.stderr
    try:
        app.log.redirect_stdouts(name=name)
        print("said")
    finally:
        sys.stdout, sys.stderr = before
        logging.getLogger(name).removeHandler(handler)
    assert [(record.levelname, record.getMessage()) for record in records] == [("WARNING", "said")]


def test_loggers_of_tasks_get_a_handler_of_their_own(app: Umbel, tmp_path: Path) -> None:
    file = tmp_path / "tasks"
    tasks = logging.getLogger("umbel.task")
    before = tasks.handlers[:], tasks.level, tasks.propagate
    tasks.handlers = []
    try:
        made = app.log.setup_task_loggers("INFO", str(file), "%(task_name)s[%(task_id)s]: %(message)s")
        assert made is tasks and not tasks.propagate
        umbel.log.get_task_logger("views.tasks").info("outside")
        tasks.debug("too little")
        for handler in tasks.handlers:
            handler.close()
    finally:
        tasks.handlers, tasks.level, tasks.propagate = before
        logging.Logger.manager._clear_cache()
    assert file.read_text() == "???[???]: outside\n"


@pytest.mark.parametrize(
    ("setting", "asked", "file", "answer"),
    [(None, None, None, False), (True, None, None, False), (None, False, None, False), (True, True, "f", False)],
)
def test_colours_are_for_terminals(
    app: Umbel, setting: bool | None, asked: bool | None, file: str | None, answer: bool
) -> None:
    app.conf.worker_log_color = setting
    assert app.log.supports_color(asked, file) is answer
