"""Boot steps: the parts that a worker is made of, and the ones that users add to it.

A step says what it ``requires`` and has hooks that are called when the worker starts and stops; a blueprint orders
steps and runs them. Names and hooks are Celery's; hooks may also be ``async def``.

    class Metrics(bootsteps.StartStopStep):
        requires = ("Pool",)

        def start(self, worker): ...

        def stop(self, worker): ...

    app.steps["worker"].add(Metrics)
"""

from umbel.bootsteps.blueprint import Blueprint, State
from umbel.bootsteps.consumer_step import ConsumerStep
from umbel.bootsteps.drawing import draw
from umbel.bootsteps.hooks import HookThread
from umbel.bootsteps.ordering import order_steps
from umbel.bootsteps.step import StartStopStep, Step

__all__ = ["Blueprint", "ConsumerStep", "HookThread", "StartStopStep", "State", "Step", "draw", "order_steps"]
