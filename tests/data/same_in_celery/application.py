"""Where calls go, what tasks are given, and which store results go to: modules below `celery.app`."""

import re

from celery import Celery
from celery.app import annotations, autoretry, backends, routes
from celery.app.utils import filter_hidden_settings, sanitize_url

app = Celery("x", broker="memory://", backend="redis://")


@app.task(name="proj.add")
def add(x):
    return x


# annotations
table = annotations.MapAnnotation({"*": {"rate_limit": "1/s"}, "proj.add": {"a": 1}})
empty = annotations.MapAnnotation({})
print(table.annotate_any(), table.annotate(add), empty.annotate(add), empty.annotate_any())


class Own:
    def annotate(self, task):
        return {"name": task.name}


print([type(each).__name__ for each in annotations.prepare(({"proj.add": {}}, Own(), "os.path.join"))])
print(annotations.prepare(None), len(annotations.prepare({"a": 1})))
print(list(annotations.resolve_all(annotations.prepare([{"proj.add": {"r": 1}, "*": {"z": 2}}]), add)))
print(list(annotations.resolve_all([table, Own()], add)), list(annotations.resolve_all([Own(), table], add)))

# routes
route = routes.MapRoute({"proj.add": {"queue": "q"}, "proj.*": {"queue": "w"}, re.compile("x.+"): {"queue": "re"}})
print([route(name) for name in ("proj.add", "proj.other", "xyz", "none")])
print(routes.MapRoute([("a.*", {"queue": "1"}), ("a.b", {"queue": "2"})])("a.b"), routes.MapRoute({"a": "q"})("a"))
print([type(each).__name__ for each in routes.prepare([{"a": {}}, [("a", {"queue": "s"})], print, "os.path.join"])])
print(routes.prepare(None), len(routes.prepare({"a": {}})), routes.expand_router_string("os.path.join").__name__)


def function(name, args, kwargs, options, task=None, **kw):
    return {"f": {"queue": "by_function"}, "g": "text"}.get(name)


class ByMethod:
    def route_for_task(self, task, args=None, kwargs=None):
        return {"queue": f"of_{args[0]}"} if task == "m" else None


def shown(options):
    return {name: getattr(value, "name", value) for name, value in sorted(options.items())}


known = app.amqp.queues
router = routes.Router(
    [routes.MapRoute({"proj.add": {"queue": "high"}, "z": {"queue": "zq", "priority": 3}}), function, ByMethod()],
    known,
    create_missing=True,
    app=app,
)
for options in ({}, {"queue": "mine"}, {"priority": 9}):
    for name in ("proj.add", "z", "none", "f", "g", "m"):
        print(options, name, shown(router.route(dict(options), name, ("arg",))))
print(router.lookup_route("z"), router.lookup_route("none"), router.lookup_route("f"), router.lookup_route("g"))
print(router.query_router(function, "g", (), {}, {}, None), router.query_router(ByMethod(), "m", [1], {}, {}, None))
print(shown(router.expand_destination("abc")), shown(router.expand_destination({"queue": "zz", "priority": 1})))

# result stores
for name in ("redis", "rpc", "disabled", None):
    print(name, backends.by_name(name).__name__)
for url in ("redis://localhost:1/2", "rpc://", "redis"):
    found, where = backends.by_url(url)
    print(found.__name__, where)

print(autoretry.add_autoretry_behaviour(add, autoretry_for=(ValueError,)))

# settings to be shown
for url in ("redis://u:p@h:1/2", "redis://h:1/2", "amqp://:p@h//", "db+postgresql://u:p%40x@h/d?a=b"):
    print(sanitize_url(url))
print(sanitize_url("redis://u:p@h", mask="?"))
settings = {
    "result_backend": "redis://u:p@h/1",
    "secret_key": "x",
    "a": 1,
    "my_password": "q",
    "API_URL": "u",
    "b": [1],
}
print(filter_hidden_settings({**settings, "nested": {"token": 1, "b": [1], "fine": None}}))
for name in ("database_url", "signature", "credentials", "bearer", "compass", "keys", "task_acks_late", "broker_host"):
    print(filter_hidden_settings({name: "value"}))
