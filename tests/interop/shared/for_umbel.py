"""The application of Umbel: ``umbel -A shared.for_umbel worker``."""

import os

from shared.tasks import define

from umbel import Umbel

app = define(
    Umbel(
        "interop",
        broker=os.environ["INTEROP_BROKER"],
        backend=os.environ["INTEROP_BACKEND"],
        mixed_fleet=True,
        accept_content=os.environ.get("INTEROP_ACCEPT", "json").split(","),
        set_as_current=False,
    ),
    "umbel",
)
