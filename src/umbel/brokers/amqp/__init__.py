"""RabbitMQ: the driver for ``amqp://`` and ``amqps://``.

``broker`` is the seam; below it ``consumer`` with ``intake`` (flow control), ``publisher`` (confirms), ``topology``,
``delays``, ``aside`` (dead letters, parked messages, looking into queues), ``fanout``, ``locks``. They stand on
``session`` (one connection and its thread), ``channels`` (calls with answers), ``connection`` (pika with a shorter way
for messages), ``posts`` (messages to and from AMQP), ``frames`` and ``tables`` (bytes), ``addresses`` (URLs).
"""

from umbel.brokers.amqp.broker import AMQPBroker

__all__ = ["AMQPBroker"]
