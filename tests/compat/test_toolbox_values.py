"""Functions of Celery's utilities give what Celery 5.7 gives; each value here was seen there."""

from __future__ import annotations

import datetime
import os
import pickle
import threading
import types
from typing import Any

import pytest

from umbel.compat.celery import states
from umbel.compat.celery.utils import debug, functional, imports, log, nodenames, objects, saferepr, serialization, text
from umbel.compat.celery.utils import time as times
from umbel.errors import ConfigurationError

DAY = datetime.datetime(2020, 1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("found", "value"),
    [
        (lambda: text.abbr("abcdefghij", 5), "ab..."),
        (lambda: text.abbr("abcdefghij", 5, None), "abcde"),
        (lambda: text.abbr("abc", 5), "abc"),
        (lambda: text.abbrtask("proj.tasks.long.add", 10), "proj[.]add"),
        (lambda: text.abbrtask("add", 10), "add"),
        (lambda: text.dedent("  a\n  b"), "  a\n  b"),
        (lambda: text.dedent_initial("    abc", 4), "abc"),
        (lambda: text.ensure_newlines("a"), "a\n\n"),
        (lambda: text.ensure_newlines("a\n"), "a\n\n"),
        (lambda: text.ensure_sep("-", "a-", 3), "a---"),
        (lambda: text.fill_paragraphs("aaa bbb ccc\nddd eee", 7), "aaa bbb\nccc\nddd eee"),
        (lambda: text.indent("a\nb", 2), "  a\n  b"),
        (lambda: text.join(["a", "", "b"]), "a\nb"),
        (lambda: [text.pluralize(n, "x") for n in (0, 1, 2)], ["xs", "x", "xs"]),
        (lambda: text.pretty({"a": 1}), "\n 'a': 1}"),
        (lambda: text.str_to_list("a,b"), ["a", "b"]),
        (lambda: text.simple_format("a%nb%%%x", {"n": "N", "%": "%", "x": lambda: "X"}), "aNb%X"),
        (lambda: text.truncate("abcdefgh", 5), "abcde..."),
        (lambda: text.truncate("abc", 5), "abc"),
        (lambda: functional.padlist(["a"], 3), ["a", None, None]),
        (lambda: list(functional.chunks(iter(range(5)), 2)), [[0, 1], [2, 3], [4]]),
        (lambda: [functional.maybe_list(x) for x in (None, 1, {"a": 1}, (1,))], [None, [1], [{"a": 1}], (1,)]),
        (lambda: [functional.is_list(x) for x in ("a", {}, (1,), iter([]))], [False, False, True, True]),
        (lambda: functional.mattrgetter("real", "foo")(1), {"real": 1, "foo": None}),
        (lambda: functional.firstmethod("bit_length")([None, 0, 5]), 0),
        (lambda: functional.firstmethod("nothing")([1, 2]), None),
        (lambda: functional.dictfilter({"a": None, "b": 1}, c=None, e=2), {"b": 1, "e": 2}),
        (lambda: [functional.maybe(int, None), functional.maybe(int, "3")], [None, 3]),
        (lambda: list(functional.uniq([1, 2, 1])), [1, 2]),
        (lambda: functional.first(lambda x: x > 1, [1, 2, 3]), 2),
        (lambda: [nodenames.nodesplit(x) for x in ("a", "a@b")], [(None, "a"), ("a", "b")]),
        (lambda: nodenames.default_nodename("w"), "celery@w"),
        (lambda: nodenames.default_nodename("w@h"), "w@h"),
        (lambda: nodenames.node_format("%n %h %d %p %i %I", "w@h.x.y"), "w h.x.y x.y w@h.x.y 0 "),
        (lambda: nodenames.host_format("%n %h %d", "h.x.y"), "h h.x.y x.y"),
        (lambda: nodenames.worker_direct("w@h").name, "w@h.dq2"),
        (lambda: nodenames.worker_direct("w@h").exchange.name, "C.dq2"),
        (lambda: [serialization.strtobool(x) for x in ("on", "No", 1)], [True, False, 1]),
        (lambda: [times.rate(x) for x in ("10/m", None, 3)], [10 / 60, 0, 3]),
        (lambda: times.weekday("mon"), 1),
        (lambda: times.maybe_iso8601("2020-01-01"), datetime.datetime(2020, 1, 1)),
        (lambda: times.delta_resolution(DAY, datetime.timedelta(hours=3)), datetime.datetime(2020, 1, 2, 3)),
        (lambda: times.adjust_timestamp(100, 2, lambda: 1), -3500),
        (lambda: times.get_exponential_backoff_interval(2, 3, 100), 16),
        (lambda: times.maybe_timedelta(3), datetime.timedelta(seconds=3)),
        (lambda: [debug.humanbytes(x) for x in (5e6, 100)], ["4.7684MB", "100b"]),
        (lambda: list(debug.sample(list(range(10)), 3)), [0, 3, 6]),
        (lambda: [log.mlevel(x) for x in ("info", 10, None)], [20, 10, None]),
        (lambda: log.LOG_LEVELS["FATAL"], 50),
        (lambda: log.LOG_LEVELS[30], "WARNING"),
        (lambda: saferepr.saferepr([1, "é", b"x", None, 1.5, {1}]), "[1, 'é', b'x', None, 1.5, {1}]"),
        (lambda: saferepr.saferepr(("a",)), "('a',)"),
        (lambda: imports.symbol_by_name("os.path.join"), os.path.join),
        (lambda: imports.symbol_by_name("os:getpid"), os.getpid),
        (lambda: imports.symbol_by_name("there.is.none", default=3), 3),
        (lambda: imports.find_module("os"), os),
        (lambda: [states.precedence(x) for x in ("SUCCESS", "MINE", "PENDING")], [0, 2, 8]),
        (lambda: states.state("PENDING") < states.state("SUCCESS"), True),
        (lambda: sorted(map(states.state, ("SUCCESS", "MINE", "PENDING"))), ["PENDING", "MINE", "SUCCESS"]),
    ],
)
def test_as_in_celery(found: Any, value: Any) -> None:
    assert found() == value


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: text.simple_format("a%q", {"n": "1"}), ValueError),
        (lambda: serialization.strtobool("maybe"), TypeError),
        (lambda: times.weekday("x"), KeyError),
        (lambda: times.rate("1/x"), ConfigurationError),
        (lambda: log.mlevel("foo"), KeyError),
        (lambda: log.get_task_logger("celery"), RuntimeError),
        (lambda: imports.symbol_by_name("there.is.none"), ModuleNotFoundError),
        (lambda: imports.find_module("os.foo"), imports.NotAPackage),
        (lambda: imports.find_module("umbel.there_is_none"), ModuleNotFoundError),
        (lambda: nodenames.node_format("%q", "w@h"), ValueError),
    ],
)
def test_errors_as_in_celery(call: Any, error: type[BaseException]) -> None:
    with pytest.raises(error):
        call()


# -- time --


def test_time_left() -> None:
    start = datetime.datetime(2024, 1, 1, 12, 20, tzinfo=datetime.UTC)
    now = start + datetime.timedelta(minutes=10)
    hour = datetime.timedelta(hours=1)
    assert times.remaining(start, hour, now) == datetime.timedelta(minutes=50)
    assert times.remaining(start, hour, now, relative=True) == datetime.timedelta(minutes=30)
    assert times.remaining(start, times.ffwd(hour=0, minute=0), now) == -datetime.timedelta(hours=12, minutes=30)
    assert times.remaining(start, hour) < datetime.timedelta()


def test_zones() -> None:
    berlin = times.timezone.get_timezone("Europe/Berlin")
    naive = datetime.datetime(2024, 7, 1, 12)
    assert times.maybe_make_aware(naive).isoformat() == "2024-07-01T12:00:00+00:00"
    assert times.maybe_make_aware(naive, berlin).isoformat() == "2024-07-01T14:00:00+02:00"
    assert times.maybe_make_aware(naive, berlin, naive_as_utc=False).isoformat() == "2024-07-01T12:00:00+02:00"
    aware = times.make_aware(naive, berlin)
    assert times.maybe_make_aware(aware, datetime.UTC) is aware
    assert times.localize(aware, datetime.UTC) == times.to_utc(aware) == aware
    assert times.is_naive(naive)
    assert not times.is_naive(aware)
    assert times.subtract_datetimes(naive, aware) == datetime.timedelta(hours=2)
    assert times.timezone.to_local(naive, berlin) == times.timezone.to_local(aware.astimezone(datetime.UTC), berlin) + (
        datetime.timedelta(hours=2)
    )


def test_hours_pass_although_clocks_are_turned() -> None:
    before = datetime.datetime(2024, 3, 31, 1, tzinfo=times.timezone.get_timezone("Europe/Berlin"))
    assert times.add_seconds_to_datetime(before, 3600).hour == 3


@pytest.mark.parametrize("month", [1, 7])
def test_the_zone_of_this_machine(month: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        zone = times.LocalTimezone()
        moment = datetime.datetime(2024, month, 1, 12, tzinfo=zone)
        summer = month == 7
        assert moment.utcoffset() == datetime.timedelta(hours=1 + summer)
        assert moment.dst() == datetime.timedelta(hours=summer)
        assert moment.tzname() == ("CEST" if summer else "CET")
        noon = datetime.datetime(2024, month, 1, 12, tzinfo=datetime.UTC)
        assert noon.astimezone(zone).hour == 13 + summer
        assert times.utcoffset() in (-1, -2)
    finally:
        monkeypatch.undo()
        time.tzset()


# -- functional --


def test_memoize_remembers_the_last() -> None:
    calls: list[Any] = []

    @functional.memoize(maxsize=2)
    def double(number: int, by: int = 2) -> int:
        calls.append(number)
        return number * by

    assert [double(1), double(1), double(2), double(1), double(3), double(2)] == [2, 2, 4, 2, 6, 4]
    assert calls == [1, 2, 3, 2]
    found: Any = double
    assert (found.hits, found.misses) == (2, 4)
    found.clear()
    assert double(1) == 2
    assert (found.hits, found.misses) == (0, 1)
    assert found.original_func(5) == 10


def test_lazy_values() -> None:
    count = iter(range(10))
    again, once = functional.lazy(next, count), functional.mlazy(next, count)
    assert [again(), again(), once(), once(), again()] == [0, 1, 2, 2, 3]
    assert once.evaluated
    assert functional.maybe_evaluate(functional.lazy(lambda: 7)) == functional.maybe_evaluate(7) == 7
    assert functional.lazy(lambda: "a") == "a"


def test_an_iterator_gone_through_many_times() -> None:
    taken: list[int] = []

    def numbers() -> Any:
        for number in range(4):
            taken.append(number)
            yield number

    found = functional.regen(numbers())
    assert found[1] == 1
    assert taken == [0, 1]
    assert bool(found)
    assert list(found) == list(found) == [0, 1, 2, 3]
    assert len(found) == 4
    assert pickle.loads(pickle.dumps(found)) == [0, 1, 2, 3]
    items = [1]
    assert functional.regen(items) is items


def test_a_head_takes_what_the_function_takes() -> None:
    def fun(a: int, b: int = 1, *, c: int) -> None: ...

    functional.head_from_fun(fun)(1, c=2)
    with pytest.raises(TypeError):
        functional.head_from_fun(fun)(1)
    functional.head_from_fun(fun, bound=True)(c=2)
    assert not functional.fun_accepts_kwargs(fun)
    assert functional.fun_accepts_kwargs(functional.noop)


def test_a_cache_forgets_what_was_not_used_for_longest() -> None:
    cache = functional.LRUCache(limit=3)
    for key in "abc":
        cache[key] = 1
    assert cache["a"] == 1
    cache["d"] = 1
    assert list(cache.keys()) == ["c", "a", "d"]
    assert cache.incr("d") == 2
    cache.update(x=1, y=1)
    assert len(cache) == 3
    assert pickle.loads(pickle.dumps(cache)) == cache


# -- objects, imports, exceptions --


def test_objects() -> None:
    class Node(dict[str, Any]):
        queue = objects.getitem_property("options.queue", "Where to.")
        name = objects.getitem_property("name")

    node = Node(options={"queue": "slow"}, name="x")
    node.queue, node.name = "fast", "y"
    assert node == {"options": {"queue": "fast"}, "name": "y"}
    assert node.queue == "fast"
    assert objects.Bunch(a=1).a == 1

    class Base:
        value = 1

    class Derived(Base): ...

    assert objects.mro_lookup(Derived, "value") is Base
    assert objects.mro_lookup(Derived, "value", stop={Base}) is None
    with objects.FallbackContext("given", open, os.devnull) as given:
        assert given == "given"
    with objects.FallbackContext(None, open, os.devnull) as made:
        assert not made.closed
    assert made.closed


def test_names_of_here() -> None:
    assert nodenames.anon_nodename("h") == f"gen{os.getpid()}@h"
    assert imports.module_file(os) == os.__file__


def test_task_names() -> None:
    app: Any = types.SimpleNamespace(main="proj")
    assert imports.gen_task_name(app, "add", "proj.tasks") == "proj.tasks.add"
    assert imports.gen_task_name(app, "add", "__main__") == "proj.add"
    assert imports.qualname(objects.Bunch) == "umbel.compat.celery.utils.objects.Bunch"


class Unwilling(ValueError):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(first)


def test_exceptions_that_cannot_be_pickled() -> None:
    error = Unwilling(1, 2)
    nearest = serialization.get_pickleable_exception(error)
    assert type(nearest) is ValueError
    assert serialization.get_pickleable_etype(Unwilling) is Unwilling

    class Local(Exception):
        pass

    stand_in = serialization.get_pickleable_exception(Local("why", print))
    assert isinstance(stand_in, serialization.UnpickleableExceptionWrapper)
    again = pickle.loads(pickle.dumps(stand_in))
    restored = serialization.get_pickled_exception(again)
    assert type(restored).__name__ == "Local"
    assert restored.args == ("why", print)
    assert str(stand_in).startswith("Local(")
    fine = KeyError("x")
    assert serialization.get_pickleable_exception(fine) is fine
    assert serialization.find_pickleable_exception(Local()) is None


# -- log and debug --


def test_what_is_written_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    logger = log.get_logger("some.logger")
    proxy = log.LoggingProxy(logger, "warning")
    assert proxy.write("one line\n") == 9
    proxy.writelines(["two\n", "\n"])
    with log.in_sighandler():
        assert proxy.write("unsafe") == 0
    proxy.close()
    assert proxy.write("late") == 0
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "one line"),
        ("WARNING", "two"),
    ]
    assert not proxy.isatty()


def test_lines_in_colour() -> None:
    import logging

    record = logging.LogRecord("x", logging.ERROR, "", 1, "broken", None, None)
    assert log.ColorFormatter("%(message)s").format(record) == "\x1b[1;31mbroken\x1b[0m"
    assert log.ColorFormatter("%(message)s", use_color=False).format(record) == "broken"


def test_stacks_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    begun, done = threading.Event(), threading.Event()

    def wait_with_a_secret() -> None:
        secret_of_this_test = 1
        begun.set()
        done.wait(10 * secret_of_this_test)

    thread = threading.Thread(target=wait_with_a_secret, name="waiting-thread")
    thread.start()
    begun.wait(10)
    shown = debug.cry() or ""
    done.set()
    thread.join()
    assert "waiting-thread" in shown
    assert "in wait_with_a_secret" in shown
    for _ in range(3):
        debug.sample_mem()
    debug.memdump()
    assert "rss (end): " in capsys.readouterr().out
    assert debug.ps().pid == os.getpid()


def test_blocking_code_is_interrupted() -> None:
    import time

    with pytest.raises(debug.Blocked, match=r"0\.05"), debug.blockdetection(0.05):
        time.sleep(10)
    with debug.blockdetection(None):
        pass
