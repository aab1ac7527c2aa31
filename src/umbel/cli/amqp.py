"""``umbel amqp``: queues made, filled, emptied and deleted by hand, on any broker, in the words of AMQP."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec.structs import replace

from umbel.brokers.base import Consumer, Delivery, Settlement
from umbel.cli.output import count_of, on_terminal, write_json
from umbel.errors import BrokerError, UmbelError
from umbel.message import Message, new_id
from umbel.queues import Exchange

if TYPE_CHECKING:
    from umbel.cli import Context

_CONSUMER = "umbel amqp"
_LEASE = 300.0
"""Seconds that a message which `basic.get` took may be thought about before another consumer may get it."""

_WAIT = 1.0
"""Seconds that ``basic.get`` waits for a message of a broker that has not yet sent it."""

_ENDS = {":q", ":quit", ":exit", "quit", "exit"}


class Session:
    """The broker, and the messages that ``basic.get`` took and ``basic.ack`` has not acknowledged, by their tags."""

    def __init__(self, context: Context) -> None:
        self.app = context.app
        self.quiet = context.quiet
        self._held: dict[int, tuple[Consumer, Delivery]] = {}
        self._tags = 0

    def say(self, text: str) -> None:
        if not self.quiet:
            click.echo(text)

    def get(self, queue: str) -> tuple[int, Message] | None:
        """The next message of a queue and the tag that it is held under, or None."""
        consumer = self.app.broker.consumer([self.app.routes.queue(queue)], name=_CONSUMER, lease=_LEASE, window=1)
        taken = consumer.receive(1, _WAIT)
        if not taken:
            consumer.close()
            return None
        self._tags += 1
        self._held[self._tags] = consumer, taken[0]
        return self._tags, taken[0].message

    def acknowledge(self, tag: int) -> None:
        """Raises BrokerError for a tag that nothing is held under, or whose message was given to another consumer."""
        if tag not in self._held:
            raise BrokerError(f"no message is held under the tag {tag}; tags count for the `umbel amqp` that gave them")
        consumer, delivery = self._held.pop(tag)
        with consumer:
            stale = consumer.settle([Settlement(delivery)]).stale
        if stale:
            raise BrokerError(f"the message with the tag {tag} is no longer held: its lease has run out")

    def close(self) -> None:
        """Give back what is held."""
        for consumer, _ in self._held.values():
            consumer.close()
        self.app.close()


@click.group(invoke_without_command=True)
@click.pass_context
def amqp(ctx: click.Context) -> None:
    """Make, fill, empty and delete queues by hand, on any broker. Without a COMMAND: repl.

    An exchange comes into being with the first queue that is bound to it, see queue.bind.

    \b
    Examples:
      umbel -A proj amqp queue.declare reports
      umbel -A proj amqp queue.delete reports no yes
      umbel -A proj amqp
    """
    session = ctx.obj = Session(ctx.obj)
    ctx.call_on_close(session.close)
    if ctx.invoked_subcommand is None:
        ctx.invoke(repl)


@amqp.command("queue.declare")
@click.argument("queue")
@click.argument("passive", type=bool, default=False)
@click.argument("durable", type=bool, default=True)
@click.argument("auto_delete", type=bool, default=False)
@click.pass_obj
def queue_declare(session: Session, queue: str, passive: bool, durable: bool, auto_delete: bool) -> None:
    """Make QUEUE as it is configured, with its exchange; if PASSIVE, only tell whether it is there."""
    broker = session.app.broker
    if not passive:
        broker.declare(replace(session.app.routes.queue(queue), durable=durable, auto_delete=auto_delete))
    elif queue not in broker.queues():
        raise BrokerError(f"there is no queue {queue!r}")
    session.say(f"queue {queue}: {count_of(broker.size(queue).ready, 'message')}")


@amqp.command("queue.bind")
@click.argument("queue")
@click.argument("exchange")
@click.argument("routing_key")
@click.pass_obj
def queue_bind(session: Session, queue: str, exchange: str, routing_key: str) -> None:
    """Make QUEUE get what is sent to EXCHANGE with ROUTING_KEY; both are made where they are missing.

    An exchange that no configured queue has is made a direct one.
    """
    routes = session.app.routes
    known = (each.exchange for each in routes.queues().values() if each.exchange_name == exchange)
    found = next(known, Exchange(exchange))
    session.app.broker.declare(
        replace(routes.queue(queue), exchange=replace(found, name=exchange), routing_key=routing_key)
    )
    session.say(f"queue {queue} is bound to {found.type} exchange {exchange} by {routing_key!r}")


@amqp.command("queue.delete")
@click.argument("queue")
@click.argument("if_unused", type=bool, default=False)
@click.argument("if_empty", type=bool, default=False)
@click.pass_obj
def queue_delete(session: Session, queue: str, if_unused: bool, if_empty: bool) -> None:
    """Delete QUEUE with all that is in it; not if messages are held by workers (IF_UNUSED), or wait (IF_EMPTY)."""
    size = session.app.broker.size(queue)
    if if_unused and size.held > 0:
        raise BrokerError(f"queue {queue} is in use: {count_of(size.held, 'message')} held")
    if if_empty and (size.ready > 0 or size.delayed > 0):
        raise BrokerError(f"queue {queue} is not empty: {size.ready} ready, {max(0, size.delayed)} delayed")
    session.app.broker.delete(queue)
    session.say(f"queue {queue} is deleted, with {count_of(size.ready, 'message')}")


@amqp.command("queue.purge")
@click.argument("queue")
@click.pass_obj
def queue_purge(session: Session, queue: str) -> None:
    """Remove what waits in QUEUE."""
    session.say(f"{count_of(session.app.broker.purge(queue), 'message')} deleted")


@amqp.command("basic.publish")
@click.argument("msg")
@click.argument("exchange")
@click.argument("routing_key")
@click.argument("mandatory", type=bool, default=False)
@click.argument("immediate", type=bool, default=False)
@click.pass_obj
def basic_publish(
    session: Session, msg: str, exchange: str, routing_key: str, mandatory: bool, immediate: bool
) -> None:
    """Send the text MSG to EXCHANGE with ROUTING_KEY; "" for EXCHANGE: to the queue called ROUTING_KEY.

    It is no task: a worker that gets it parks or dead-letters it. MANDATORY and IMMEDIATE change nothing: a message
    that no queue takes is an error always.
    """
    message = Message(
        id=new_id(),
        task="",
        queue="" if exchange else routing_key,
        headers=b"{}",
        body=msg.encode(),
        content_type="text/plain",
        exchange=exchange,
        routing_key=routing_key if exchange else "",
    )
    session.app.broker.publish([message])
    session.say("sent")


@amqp.command("basic.get")
@click.argument("queue")
@click.argument("no_ack", type=bool, default=False)
@click.pass_obj
def basic_get(session: Session, queue: str, no_ack: bool) -> None:
    """Take the next message of QUEUE and show it; with NO_ACK it is removed at once.

    Otherwise it is held until basic.ack, and given back at the end of the session.
    """
    taken = session.get(queue)
    if taken is None:
        click.echo(f"no message in queue {queue}")
        return
    tag, message = taken
    if no_ack:
        session.acknowledge(tag)
    write_json({"delivery_tag": tag, **_document(message)})


@amqp.command("basic.ack")
@click.argument("delivery_tag", type=int)
@click.pass_obj
def basic_ack(session: Session, delivery_tag: int) -> None:
    """Acknowledge, and thereby remove, a message that basic.get took in this session."""
    session.acknowledge(delivery_tag)
    session.say("acknowledged")


@amqp.command()
@click.pass_context
def repl(ctx: click.Context) -> None:
    """Read commands from standard input, one a line, until its end or ":q"; an error does not end it."""
    group = amqp
    while (line := _read()) is not None and line.strip() not in _ENDS:
        try:
            words = shlex.split(line)
            if not words:
                continue
            _, command, rest = group.resolve_command(ctx, words)
            if command is not None and command is not repl:
                with command.make_context(words[0], list(rest), parent=ctx) as inner:
                    command.invoke(inner)
        except click.exceptions.Exit:
            continue
        except (click.ClickException, UmbelError, ValueError) as error:
            said = error.format_message() if isinstance(error, click.ClickException) else str(error)
            click.echo(f"error: {said}", err=True)


def _read() -> str | None:
    if on_terminal() and sys.stdin.isatty():
        try:
            return input("amqp> ")
        except EOFError:
            return None
    return sys.stdin.readline() or None


def _document(message: Message) -> dict[str, Any]:
    return {
        "body": message.body.decode(message.content_encoding if message.content_encoding != "binary" else "latin-1"),
        "content_type": message.content_type,
        "headers": msgspec.json.decode(message.headers or b"{}"),
        "queue": message.queue,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "priority": message.priority,
        "redelivered": message.redelivered,
    }
