"""Canvases as plain data, which a client of either kind makes its own signatures from.

``["add", 1, 2]`` is a call of ``shared.add``, ``{"chain": […]}``, ``{"group": […]}`` and
``{"chord": […], "body": …, "on_error": …}`` are what they say.
"""

from __future__ import annotations

from typing import Any


def build(app: Any, module: Any, spec: Any, **options: Any) -> Any:
    """The signature that ``spec`` describes, of ``module``: Umbel's or Celery's. Each call has ``options``."""

    def made(each: Any) -> Any:
        if isinstance(each, list):
            name, *args = each
            return app.signature(f"shared.{name}", args=tuple(args)).set(**options)
        if "chain" in each:
            return module.chain([made(part) for part in each["chain"]], app=app)
        if "group" in each:
            return module.group([made(part) for part in each["group"]], app=app)
        body = made(each["body"])
        if "on_error" in each:
            body.link_error(made(each["on_error"]))
        return module.chord([made(part) for part in each["chord"]], body, app=app)

    return made(spec)
