"""``celery.backends.rpc``: results as messages."""

from umbel.backends.rpc import RPCBackend

__all__ = ["RPCBackend"]
