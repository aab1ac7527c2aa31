"""``kombu.common``: queues of which every worker has its own."""

from __future__ import annotations

import uuid as ids
from typing import Any

from umbel.compat.kombu.entity import Exchange, Queue
from umbel.message import new_id as uuid

__all__ = ["Broadcast", "uuid"]


class Broadcast(Queue):
    """A queue that each worker has one of: all of them get every message that is sent to ``name``."""

    def __init__(
        self,
        name: str | None = None,
        queue: str | None = None,
        unique: bool = False,
        auto_delete: bool = True,
        exchange: Exchange | None = None,
        alias: str | None = None,
        **options: Any,
    ) -> None:
        """``queue``: a name of its own, to which ``unique`` adds an id; by default ``bcast.<id>``."""
        own = queue or "bcast"
        super().__init__(
            f"{own}.{ids.uuid4()}" if unique or queue is None else own,
            exchange if exchange is not None else Exchange(name or "", type="fanout"),
            name or "",
            alias=alias or name,
            auto_delete=auto_delete,
            **options,
        )
