"""``celery.canvas``: calls composed of calls."""

from umbel.canvas import Signature, chain, chord, chunks, group, maybe_signature, signature, subtask, xmap, xstarmap

_chain = chain  # the name in pickles of Celery's
_chord = chord

__all__ = [
    "Signature",
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
