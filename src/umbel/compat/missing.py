"""The parts of Celery that Umbel does not have, and why: what an import of them says.

A module or name stands here as long as it would not work. ``tests/compat/test_missing.py`` sees to it that nothing
stands here that is there, and that all of Celery's documented modules are one or the other.
"""

from __future__ import annotations

from umbel.errors import UmbelError

TABLE = "docs/reference/celery-compatibility.md"

_NO_BEAT = "Umbel has no scheduler of periodic tasks yet"
_NO_EVENTS = "Umbel's workers do not publish events yet, and nothing receives them"
_NO_CONTROL = "Umbel's workers obey no remote control commands yet but `revoke` and `terminate`"
_NO_DRIVER = "Umbel has no driver for this result store"
_OWN_STORES = "result stores of Umbel derive from umbel.backends.base.Backend"
_OWN_POOLS = "pools of Umbel are lanes: derive from umbel.executors.lanes.base.Lanes (docs/how-to/pools.md)"
_OWN_WORKER = (
    "Umbel's worker has other parts: umbel.worker.supervisor.Worker, and boot steps (docs/how-to/boot-steps.md)"
)
_NO_REQUEST = (
    "Umbel's worker keeps no request objects in its supervisor, so a task cannot have a Request class or a Strategy of "
    "its own; use middleware (docs/how-to/middleware.md) or boot steps"
)
_NO_TRACER = (
    "Umbel runs tasks in umbel.execution, and has no tracer to patch; use signals or middleware "
    "(docs/how-to/middleware.md)"
)

MODULES: dict[str, str] = {
    "celery.app.builtins": "the built-in tasks are reached by their names (celery.map, celery.chord_unlock, …)",
    "celery.app.defaults": "settings are declared in umbel.config.DECLARED",
    "celery.app.events": _NO_EVENTS,
    "celery.app.trace": _NO_TRACER,
    "celery.apps": _OWN_WORKER,
    "celery.apps.beat": _NO_BEAT,
    "celery.apps.multi": "nodes are started by `umbel multi`",
    "celery.apps.worker": _OWN_WORKER,
    "celery.backends.arangodb": _NO_DRIVER,
    "celery.backends.asynchronous": _OWN_STORES,
    "celery.backends.azureblockblob": _NO_DRIVER,
    "celery.backends.cache": _NO_DRIVER,
    "celery.backends.cassandra": _NO_DRIVER,
    "celery.backends.consul": _NO_DRIVER,
    "celery.backends.cosmosdbsql": _NO_DRIVER,
    "celery.backends.couchbase": _NO_DRIVER,
    "celery.backends.couchdb": _NO_DRIVER,
    "celery.backends.dynamodb": _NO_DRIVER,
    "celery.backends.elasticsearch": _NO_DRIVER,
    "celery.backends.filesystem": _NO_DRIVER,
    "celery.backends.gcs": _NO_DRIVER,
    "celery.backends.mongodb": _NO_DRIVER,
    "celery.backends.s3": _NO_DRIVER,
    "celery.beat": _NO_BEAT,
    "celery.bin.beat": _NO_BEAT,
    "celery.bin.control": _NO_CONTROL,
    "celery.bin.events": _NO_EVENTS,
    "celery.concurrency.asynpool": _OWN_POOLS,
    "celery.concurrency.base": _OWN_POOLS,
    "celery.concurrency.eventlet": _OWN_POOLS,
    "celery.concurrency.gevent": _OWN_POOLS,
    "celery.concurrency.prefork": _OWN_POOLS,
    "celery.concurrency.solo": _OWN_POOLS,
    "celery.concurrency.thread": _OWN_POOLS,
    "celery.contrib.sphinx": "Umbel has no extension for Sphinx",
    "celery.events": _NO_EVENTS,
    "celery.security": "messages cannot be signed yet",
    "celery.worker.autoscale": "autoscalers derive from umbel.Autoscaler (docs/how-to/autoscaling.md)",
    "celery.worker.control": _NO_CONTROL,
    "celery.worker.heartbeat": "workers prove that they live by their lease, see the setting worker_lease",
    "celery.worker.loops": _OWN_WORKER,
    "celery.worker.pidbox": _NO_CONTROL,
    "celery.worker.request": _NO_REQUEST,
    "celery.worker.state": _OWN_WORKER,
    "celery.worker.strategy": _NO_REQUEST,
    "celery.worker.consumer.agent": "Umbel has no agents",
    "celery.worker.consumer.delayed_delivery": "brokers of Umbel keep delayed tasks by themselves",
    "celery.worker.consumer.events": _NO_EVENTS,
    "celery.worker.consumer.gossip": "workers of Umbel do not gossip; they know of each other by the broker",
    "celery.worker.consumer.heart": "workers prove that they live by their lease, see the setting worker_lease",
    "celery.worker.consumer.mingle": "revocations are kept in the broker, so workers need not ask each other",
}
"""Modules of Celery that cannot be imported, and why. What is below them cannot either."""

_NOTHING_TO_SHUT_DOWN = "a task or step cannot end its worker by an exception; send it a signal"
_NO_KOMBU = "Umbel does not use kombu to talk to brokers; install kombu for what talks to them itself"

NAMES: dict[str, dict[str, str]] = {
    "celery": {
        "maybe_patch_concurrency": "the pools gevent and eventlet patch their own processes",
    },
    "celery.app": {
        "AppPickler": "applications are not pickled; pass their name",
        "disable_trace": _NO_TRACER,
        "enable_trace": _NO_TRACER,
    },
    "celery.app.control": {"Inspect": _NO_CONTROL, "flatten_reply": _NO_CONTROL},
    "celery.backends.base": dict.fromkeys(("BaseBackend", "KeyValueStoreBackend"), _OWN_STORES),
    "celery.backends.redis": {"SentinelBackend": _NO_DRIVER},
    "celery.bootsteps": {"StepFormatter": "steps are drawn by `umbel graph bootsteps`"},
    "celery.exceptions": {
        "WorkerShutdown": _NOTHING_TO_SHUT_DOWN,
        "WorkerTerminate": _NOTHING_TO_SHUT_DOWN,
    },
    "celery.worker.components": {
        "Beat": _NO_BEAT,
        "Hub": "the supervisor runs on asyncio",
        "StateDB": "what a worker must remember is in the broker",
    },
    "celery.worker.consumer": {
        "Agent": MODULES["celery.worker.consumer.agent"],
        "Events": _NO_EVENTS,
        "Gossip": MODULES["celery.worker.consumer.gossip"],
        "Heart": MODULES["celery.worker.consumer.heart"],
        "Mingle": MODULES["celery.worker.consumer.mingle"],
    },
    "kombu": dict.fromkeys(("BrokerConnection", "Connection", "Consumer", "Producer"), _NO_KOMBU),
}
"""Names in modules that are there, which cannot be imported, and why."""


class NotInUmbel(UmbelError, ImportError):
    """A part of Celery that Umbel does not have is imported; the message says why it is not there."""

    @classmethod
    def module(cls, name: str) -> NotInUmbel:
        return cls(f"Umbel has no {name}: {MODULES[name]}. What there is: {TABLE}", name=name)


def refuse(module: str, name: str) -> None:
    """For ``__getattr__`` of the mirror's modules: raises NotInUmbel for a name of Celery that is not there, and
    AttributeError for any other."""
    reason = NAMES.get(module, {}).get(name)
    if reason is not None:
        raise NotInUmbel(f"Umbel has no {module}.{name}: {reason}. What there is: {TABLE}", name=module)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")
