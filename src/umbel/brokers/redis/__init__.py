"""Redis: the driver for ``redis://``, ``rediss://`` and ``redis+socket://``.

``broker`` is the seam; below it ``publisher``, ``consumer`` with ``wake`` (how an idle one learns of work),
``adoption`` (what landed meanwhile) and ``settling``, ``admin``, ``locating``, ``fanout`` and ``revocations``. Every
step that must be atomic is a script in ``scripts`` or ``lease_scripts``, on the keys that ``keys`` names. They stand on
``link`` (one connection, and the pool of them) and ``server`` (URLs and sockets), as the result store does.
"""

from umbel.brokers.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
