"""``celery.canvas``: calls composed of calls."""

from umbel.canvas import *  # noqa: F403
from umbel.canvas import __all__ as __all__
from umbel.canvas import chain, chord

_chain, _chord = chain, chord  # the names in pickles of Celery's
