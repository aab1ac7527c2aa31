"""What the suites do to a system behind its driver's back: put raw messages in, count what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from umbel.brokers import open_broker
from umbel.message import Message

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Hooks:
    """Of a system that cannot be reached but through its driver."""

    def inject(self, url: str, queue: str, raw: bytes) -> None:
        """Put ``raw``, which is no message, into an existing queue."""
        pytest.skip("nothing but messages can be put into this system's queues")

    def objects(self, url: str) -> set[Any] | None:
        """Everything that the system stores now (keys, rows); None where that cannot be told."""
        return None


class RedisHooks(Hooks):
    def inject(self, url: str, queue: str, raw: bytes) -> None:
        import redis

        with redis.Redis.from_url(url) as client:
            client.lpush(queue, raw)

    def objects(self, url: str) -> set[Any]:
        import redis

        with redis.Redis.from_url(url) as client:
            return set(client.keys("*"))


class SQLHooks(Hooks):
    def inject(self, url: str, queue: str, raw: bytes) -> None:
        import sqlalchemy

        broker = open_broker(url)
        broker.publish([Message(id="x", task="x", queue=queue, headers=b'{"task":"x","id":"x"}', body=raw)])
        broker.close()
        engine = self._engine(url)
        with engine.begin() as connection:
            spoil = sqlalchemy.text("UPDATE umbel_messages SET headers = :raw WHERE queue = :queue")
            connection.execute(spoil, {"raw": raw, "queue": queue})
        engine.dispose()

    def _engine(self, url: str) -> Engine:
        import sqlalchemy

        scheme = urlsplit(url).scheme
        driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
        return sqlalchemy.create_engine(driver.get(scheme, scheme) + url[len(scheme) :])

    def objects(self, url: str) -> set[Any]:
        import sqlalchemy

        engine = self._engine(url)
        found: set[Any] = set()
        with engine.connect() as connection:
            for name in sqlalchemy.inspect(connection).get_table_names():
                table = sqlalchemy.Table(name, sqlalchemy.MetaData(), autoload_with=connection)
                keys = list(table.primary_key.columns) or list(table.columns)
                found |= {(name, *row) for row in connection.execute(sqlalchemy.select(*keys))}
        engine.dispose()
        return found


class AMQPHooks(Hooks):
    def inject(self, url: str, queue: str, raw: bytes) -> None:
        import pika

        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", queue, raw, pika.BasicProperties(headers={"task": "without.id"}))
