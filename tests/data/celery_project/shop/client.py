"""Uses the tasks and prints what came of it as JSON; times and ids left out, so that two runs can be compared."""

import datetime
import json
import pickle
import sys
import time

import celery.result
from celery import chain, chord, current_app, group, signature
from celery.exceptions import ChordError, NotRegistered, TimeoutError
from celery.result import AsyncResult, GroupResult, allow_join_result

from shop import celery_app as app
from shop.errors import OutOfStock
from shop.ledger import lines, note
from shop.mails.tasks import loose, report, send
from shop.orders import tasks

TIMEOUT = 20
answers = {}


def answer(function):
    """Note what a function returns under its name, or what it raised."""
    try:
        answers[function.__name__] = function()
    except Exception as error:
        answers[function.__name__] = f"{type(error).__name__}: {error}"
    return function


def get(result, **kwargs):
    return result.get(timeout=TIMEOUT, **kwargs)


def until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@answer
def plain():
    result = tasks.add.delay(2, 3)
    return [get(result), result.state, result.ready(), result.successful(), result.failed(), type(result).__name__]


@answer
def keywords():
    return get(tasks.add.apply_async(kwargs={"x": 4, "y": 5}))


@answer
def by_name():
    return get(app.send_task("shop.total", ([1, 2, 3],)))


@answer
def routed():
    return get(send.delay("a@b.example", subject="news"))


@answer
def routed_by_table():
    return get(tasks.audit.delay())


@answer
def routed_by_call():
    return get(tasks.audit.apply_async(queue="orders"))


@answer
def known_tasks():
    return sorted(name for name in app.tasks if name.startswith("shop."))


@answer
def unknown_task():
    try:
        app.tasks["shop.nothing"]
    except NotRegistered as error:
        return [isinstance(error, KeyError), "shop.nothing" in str(error)]


@answer
def wrong_arguments():
    try:
        tasks.add.delay(1)
    except TypeError:
        return "TypeError"


@answer
def untyped():
    return get(loose.delay(1, 2, 3))


@answer
def class_task():
    return [get(report.delay(1, 2)), report.name]


@answer
def failure():
    result = tasks.sell.delay("lamp", 0)
    try:
        get(result)
    except OutOfStock as error:
        return [list(error.args), result.state, "OutOfStock" in result.traceback, type(result.result).__name__]


@answer
def failure_kept():
    result = tasks.sell.delay("lamp", 0)
    return repr(get(result, propagate=False))


@answer
def retries():
    return get(tasks.stubborn.delay(2))


@answer
def retries_exhausted():
    return repr(get(tasks.stubborn.delay(9), propagate=False))


@answer
def autoretry():
    return repr(get(tasks.eager_to_retry.delay(), propagate=False))


@answer
def handlers():
    return [get(tasks.handled.delay(False)), repr(get(tasks.handled.delay(True), propagate=False))]


@answer
def watched():
    return get(tasks.watched.delay(word="watched"))


@answer
def annotations():
    return get(tasks.annotated.delay())


@answer
def facts():
    return get(tasks.facts.apply_async((1,), {"two": 2}, headers={"tenant": "t1"}, time_limit=60, soft_time_limit=50))


@answer
def called():
    return [tasks.add(1, 2), tasks.facts()["eager"]]


@answer
def applied():
    result = tasks.add.apply((1, 2))
    return [result.get(), result.state, type(result).__name__, tasks.facts.apply().get()["eager"]]


@answer
def countdown():
    begun = time.time()
    value = get(tasks.add.apply_async((1, 1), countdown=0.5))
    return [value, time.time() - begun >= 0.5]


@answer
def eta():
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.5)
    value = get(tasks.add.apply_async((1, 1), eta=moment))
    return [value, datetime.datetime.now(datetime.UTC) >= moment]


@answer
def expired():
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=5)
    result = tasks.add.apply_async((1, 1), expires=moment)
    until(result.ready)
    return [result.state, type(result.result).__name__]


@answer
def states():
    result = tasks.stateful.delay()
    halfway = until(lambda: result.state == "HALFWAY")
    info = result.info
    note("seen", result.id)
    return [halfway, info, get(result)]


@answer
def ignored():
    result = tasks.ignoring.delay()
    until(lambda: result.state == "SKIPPED")
    return [result.state, result.info]


@answer
def soft_limit():
    return get(tasks.slow.delay())


@answer
def timeout():
    try:
        AsyncResult("no-such-task").get(timeout=0.2)
    except TimeoutError as error:
        return type(error).__name__


@answer
def pending():
    return AsyncResult("no-such-task").state


@answer
def chains():
    first = chain(tasks.add.s(1, 1), tasks.add.s(2), tasks.add.si(5, 5))()
    return [get(first), get(first.parent), get((tasks.add.s(1, 2) | tasks.add.s(3)).delay())]


@answer
def groups():
    result = group(tasks.add.s(number, number) for number in range(5)).apply_async()
    values = get(result)
    return [values, result.ready(), result.successful(), result.completed_count(), len(result), type(result).__name__]


@answer
def chords():
    return get(chord([tasks.add.s(number, number) for number in range(5)])(tasks.total.s()))


@answer
def nested():
    inner = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total.s())
    return [get(group(inner, tasks.add.s(1, 0)).delay()), get((inner | tasks.add.s(10)).delay())]


@answer
def chord_of_failures():
    result = chord([tasks.add.s(1, 1), tasks.sell.s("lamp", 0)])(tasks.total.s())
    error = get(result, propagate=False)
    return [isinstance(error, ChordError), "OutOfStock" in str(error), result.state]


@answer
def maps():
    return [
        get(tasks.total.map([[1, 2], [3, 4]]).delay()),
        get(tasks.add.starmap([(1, 2), (3, 4)]).delay()),
        get(tasks.add.chunks([(1, 1), (2, 2), (3, 3)], 2)()),
    ]


@answer
def replaced():
    return get(tasks.replaced.delay([1, 2, 3]))


@answer
def saved_group():
    result = group(tasks.add.s(1, 1), tasks.add.s(2, 2)).apply_async()
    result.save()
    restored = GroupResult.restore(result.id)
    with allow_join_result():
        return [get(restored), restored == result]


@answer
def children():
    result = tasks.spawning.delay()
    ids = get(result)
    return [[child.id for child in result.children] == ids, sorted(get(child) for child in result.children)]


@answer
def callbacks():
    tasks.add.apply_async((20, 22), link=tasks.remember.s())
    tasks.sell.apply_async(("vase", 0), link_error=tasks.failed.s())
    return until(lambda: "callback 42" in lines() and any(line.startswith("errback") for line in lines()))


@answer
def signatures():
    made = tasks.add.s(1)
    again = signature(json.loads(json.dumps(made)), app=app)
    partial = made.clone((2,))
    return [
        again.task == made.task,
        dict(made)["task"],
        get(partial.apply_async()),
        made.set(countdown=1).options,
        tasks.add.si(1, 1).immutable,
        repr(made),
    ]


@answer
def pickles():
    result = tasks.add.delay(1, 1)
    task = pickle.loads(pickle.dumps(tasks.add))
    made = pickle.loads(pickle.dumps(tasks.add.s(1, 1)))
    return [get(pickle.loads(pickle.dumps(result))), task.name, get(made.delay())]


@answer
def current():
    return [current_app.main, app.main, celery.result.AsyncResult is AsyncResult, app.Task is not None]


@answer
def configured():
    conf = app.conf
    return [
        conf.task_default_queue,
        conf["task_serializer"],
        conf.get("result_serializer"),
        conf.ONCE["backend"],
        conf.redbeat_redis_url == conf.broker_url,
        conf.timezone,
    ]


@answer
def extended():
    result = tasks.add.delay(1, 1)
    get(result)
    return [result.name, list(result.args), result.kwargs, result.retries, result.queue]


answers["ledger"] = sorted(line for line in lines() if not line.startswith("seen "))
json.dump(answers, sys.stdout, indent=1, sort_keys=True, default=repr)
