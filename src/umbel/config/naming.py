"""Names of settings: Celery's upper-case ones are translated, unknown ones get an error that suggests a known one."""

from umbel.config.sections import DECLARED, OLD_NAMES
from umbel.errors import ConfigurationError

SIMILAR = 0.8
"""From this ratio of :class:`difflib.SequenceMatcher` on, a name counts as a misspelt setting."""


class UnknownSetting(ConfigurationError, AttributeError, KeyError):
    """No setting has this name. Also what ``hasattr`` and users of mappings expect."""

    def __str__(self) -> str:
        return str(self.args[0])


def translate(name: str, prefix: str = "") -> str | None:
    """The setting that ``name`` means, or None.

    Accepts the name itself, Celery's old upper-case name, and ``CELERY_`` before the name in upper case. With a
    ``prefix``, as of Django settings, what follows it is tried first.
    """
    if prefix and name.startswith(prefix) and (rest := name[len(prefix) :].lower()) in DECLARED:
        return rest
    if name in DECLARED:
        return name
    if name in OLD_NAMES:
        return OLD_NAMES[name]
    if name.startswith("CELERY_") and name.isupper() and (rest := name[7:].lower()) in DECLARED:
        return rest
    return None


def suggest(name: str, cutoff: float = 0.6) -> str | None:
    """The known name most like ``name``, spelt in the same case; None if none is like it."""
    import difflib

    if name in DECLARED:
        return name
    names = [*OLD_NAMES, *(f"CELERY_{known.upper()}" for known in DECLARED)] if name.isupper() else DECLARED
    found = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return found[0] if found else None


def unknown(name: str, origin: str, prefix: str = "") -> str:
    """The text of an error about an unknown ``name`` found in ``origin``, with a suggestion if there is one."""
    if prefix and name.startswith(prefix):
        similar = suggest(name[len(prefix) :].lower())
        if similar:
            similar = prefix + (similar.upper() if prefix.isupper() else similar)
    else:
        similar = suggest(name)
    hint = f" Did you mean {similar}?" if similar else " `umbel config` lists all settings."
    return f"unknown setting {name} ({origin}).{hint}"


def known(name: str, origin: str) -> str:
    """The setting that ``name`` means; raises :class:`UnknownSetting`."""
    found = translate(name)
    if found is None:
        raise UnknownSetting(unknown(name, origin))
    return found
