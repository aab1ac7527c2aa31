"""Huey's tasks in a process that gevent has patched first, as its documentation asks for."""

from gevent import monkey

monkey.patch_all()

from benchmarks.systems.huey import huey as huey  # noqa: E402
