"""The layers that an application is made of, each of which knows those before it.

``configured``: settings, time, queues. ``tasked``: the tasks and where they come from. ``equipped``: what belongs to a
running program, and Celery's views of all that (``amqp``, ``connections``, ``loader``, ``logs``). On top stands
:class:`umbel.app.Umbel`, which has the drivers, sends and finds results.
"""
