"""Calls composed of calls: chains, groups, chords, maps. Each is a signature, so all of them nest in each other.

A canvas is data until it is sent. Then it is checked (``checking``), copied, frozen, which gives every call in it its
id and its place, and turned into the messages of those calls that can run at once; what follows travels in them
(``chain``, ``chord``), or is stored once and referred to where it is large (``storing``). ``members`` is what executors
do when a member of a chord has ended, ``builtin`` are the tasks that canvases need, ``stamping`` marks all
calls of a canvas.
"""

from umbel.canvas.chain import chain
from umbel.canvas.chord import chord
from umbel.canvas.group import group
from umbel.canvas.maps import chunks, xmap, xstarmap
from umbel.canvas.signature import Signature, maybe_signature, signature, subtask
from umbel.canvas.stamping import StampingVisitor

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
