"""Which names in ``broker_transport_options`` the drivers know, and why Celery's others have no effect."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("umbel.config")

_SQL = frozenset({"engine_options", "engine_callback", "statement_timeout"})
KNOWN: Mapping[str, frozenset[str]] = {
    "redis": frozenset(
        {
            "client_name",
            "credential_provider",
            "health_check_interval",
            "socket_connect_timeout",
            "socket_keepalive",
            "socket_keepalive_options",
        }
    ),
    "amqp": frozenset({"heartbeat", "login_method", "native_delayed_delivery_queue_type", "queue_type"}),
    "sqlite": _SQL,
    "postgresql": _SQL,
    "mysql": _SQL,
    "mariadb": _SQL,
    "memory": frozenset(),
}
"""By the first word of the scheme; drivers of third parties know theirs themselves."""

_EVERYWHERE = frozenset({"global_keyprefix"})

_LEASES = "a worker renews its lease on what it holds, which nobody else gets while it lives"
_DEADLINE = "what cannot be reached is tried again until the one deadline, `publish_timeout`"
_STEPS = "queues are laid out as Celery's are without this option"

REASONS: Mapping[str, str] = {
    "visibility_timeout": _LEASES,
    "ack_emulation": _LEASES,
    "unacked_key": _LEASES,
    "unacked_index_key": _LEASES,
    "unacked_mutex_key": _LEASES,
    "unacked_mutex_expire": _LEASES,
    "unacked_restore_limit": _LEASES,
    "connect_retries_timeout": _DEADLINE,
    "max_retries": _DEADLINE,
    "interval_start": _DEADLINE,
    "interval_step": _DEADLINE,
    "interval_max": _DEADLINE,
    "retry_on_timeout": _DEADLINE,
    "socket_timeout": _DEADLINE,
    "fanout_patterns": _STEPS,
    "fanout_prefix": _STEPS,
    "priority_steps": _STEPS,
    "sep": _STEPS,
    "queue_order_strategy": "a worker's queues take turns",
    "polling_interval": "idle workers are woken",
    "max_connections": "a process opens no more than it has threads that talk to the broker at the same time",
}
_AS_ALWAYS = (("confirm_publish", True), ("fanout_prefix", True), ("fanout_patterns", True), ("ack_emulation", True))
"""What Umbel does anyway."""


def unused(scheme: str, options: Mapping[str, Any]) -> dict[str, str]:
    """The options that the driver of ``scheme`` does not know, with the reasons."""
    known = KNOWN.get(scheme.partition("+")[0].replace("amqps", "amqp").replace("rediss", "redis"))
    if known is None:
        return {}
    return {
        name: REASONS.get(name, f"the driver of {scheme}:// has no such option")
        for name, value in options.items()
        if name not in known and name not in _EVERYWHERE and (name, value) not in _AS_ALWAYS
    }


def warn_of_unused(scheme: str, options: Mapping[str, Any]) -> None:
    """Log the options that have no effect."""
    for name, reason in unused(scheme, options).items():
        log.warning("no effect in Umbel: setting=broker_transport_options[%r] reason=%r", name, reason)
