"""Stamps: headers of the user's own that the calls of a canvas carry, and the visitors that say which.

A stamped signature has the names of its stamps in the option ``stamped_headers``, and each stamp as an option of its
name. In a message they are the headers ``stamped_headers`` and ``stamps``; ``task.request`` has both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from umbel.canvas.chord import chord
    from umbel.canvas.signature import Signature

Stamps = dict[str, Any]
NAMES = "stamped_headers"


class StampingVisitor(ABC):
    """Says what a canvas is stamped with: ``sig.stamp(visitor=…)`` calls a method for each part of it.

    Each gets the part and, as keywords, the stamps that come from outside of it; it returns further ones as a dict, or
    None. What ``on_group_start``, ``on_chain_start``, ``on_chord_header_start`` return is for all that is inside, what
    ``on_chord_body`` returns for the body. Where a key ``stamped_headers`` is returned too, only those that it names
    are stamps, and the others are options.
    """

    @abstractmethod
    def on_signature(self, sig: Signature, /, **headers: Any) -> Stamps | None:
        """A single task."""

    def on_group_start(self, sig: Signature, /, **headers: Any) -> Stamps | None:
        """A group, before its members."""
        return None

    def on_group_end(self, sig: Signature, /, **headers: Any) -> None:  # noqa: B027 - few need it
        """A group, after its members."""

    def on_chain_start(self, sig: Signature, /, **headers: Any) -> Stamps | None:
        """A chain, before its links."""
        return None

    def on_chain_end(self, sig: Signature, /, **headers: Any) -> None:  # noqa: B027 - few need it
        """A chain, after its links."""

    def on_chord_header_start(self, sig: Signature, /, **headers: Any) -> Stamps | None:
        """A chord, before its members: by default what ``on_group_start`` says of its header."""
        return self.on_group_start(cast("chord", sig).header, **headers)

    def on_chord_header_end(self, sig: Signature, /, **headers: Any) -> None:
        """A chord, after its members: by default as ``on_group_end`` of its header."""
        self.on_group_end(cast("chord", sig).header, **headers)

    def on_chord_body(self, sig: Signature, /, **headers: Any) -> Stamps | None:
        """A chord, before its body."""
        return None

    def on_callback(self, callback: Signature, /, **headers: Any) -> Stamps | None:
        """A callback of a signature (``link``), before it is stamped itself."""
        return None

    def on_errback(self, errback: Signature, /, **headers: Any) -> Stamps | None:
        """An error callback of a signature (``link_error``), before it is stamped itself."""
        return None


def gathered(outer: Mapping[str, Any], *more: Mapping[str, Any] | None, append: bool) -> Stamps:
    """``outer`` and further stamps as one, with their names.

    Of two values of a stamp the former holds, or with ``append`` a list of both; two lists become one in any case.
    Everything in ``outer`` and ``more`` that has no ``stamped_headers`` is a stamp.
    """
    found: Stamps = {}
    names: dict[str, None] = {}
    for source in (outer, *more):
        if not source:
            continue
        given = source.get(NAMES)
        names.update(dict.fromkeys(source if given is None else given))
        for name, value in source.items():
            if name != NAMES:
                found[name] = _both(found[name], value, append) if name in found else value
    found[NAMES] = list(names)
    return found


def _both(first: Any, second: Any, append: bool) -> Any:
    several = isinstance(first, (list, tuple)), isinstance(second, (list, tuple))
    if not append and not all(several):
        return first
    former = [] if first is None else list(first) if several[0] else [first]
    return [*former, *(second if several[1] else [second])]


def own_stamps(sig: Signature) -> Stamps | None:
    """The stamps that a signature has already."""
    options = sig.options
    names = options.get(NAMES)
    return {NAMES: names, **{name: options[name] for name in names if name in options}} if names else None


def with_shared(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call in a canvas whose options are ``shared``: its own go before them, stamps come together."""
    merged = {**shared, **own}
    if NAMES in shared and NAMES in own:
        merged[NAMES] = list(dict.fromkeys([*own[NAMES], *shared[NAMES]]))
    return merged


def stamp_single(sig: Signature, visitor: StampingVisitor | None, append: bool, headers: Stamps) -> None:
    """Stamp one call and its links."""
    stamp_links(sig, visitor, append, headers)
    found = visitor.on_signature(sig, **headers) if visitor is not None else None
    sig.options.update(gathered(headers, found, own_stamps(sig), append=append))


def stamp_parts(sig: Signature, visitor: StampingVisitor | None, append: bool, headers: Stamps) -> None:
    """Stamp the calls of a chain or group, and its links."""
    kind = sig.subtask_type
    found = None
    if visitor is not None:
        found = (visitor.on_chain_start if kind == "chain" else visitor.on_group_start)(sig, **headers)
    inside = gathered(headers, found, own_stamps(sig), append=append)
    stamp_links(sig, visitor, append, inside)
    for call in cast("Any", sig).tasks:
        call.stamp(visitor, append, **inside)
    if visitor is not None:
        (visitor.on_chain_end if kind == "chain" else visitor.on_group_end)(sig, **inside)


def stamp_chord(sig: chord, visitor: StampingVisitor | None, append: bool, headers: Stamps) -> None:
    """Stamp the members of a chord's header, its body, and its links."""
    found = visitor.on_chord_header_start(sig, **headers) if visitor is not None else None
    inside = gathered(headers, found, own_stamps(sig), append=append)
    stamp_links(sig, visitor, append, inside)
    for call in sig.tasks:
        call.stamp(visitor, append, **inside)
    if visitor is not None:
        visitor.on_chord_header_end(sig, **inside)
    if sig.body is not None:
        if visitor is not None:
            inside = gathered(inside, visitor.on_chord_body(sig, **inside), own_stamps(sig), append=append)
        sig.body.stamp(visitor, append, **inside)


def stamp_links(sig: Signature, visitor: StampingVisitor | None, append: bool, headers: Stamps) -> None:
    """Stamp what is called after a signature, with the same stamps; its own stamps stay its own."""
    from umbel.canvas.checking import several
    from umbel.canvas.signature import maybe_signature

    options = sig.options
    for name in ("link", "link_error"):
        if not options.get(name):
            continue
        links = [maybe_signature(each, sig.own_app) for each in several(options[name])]
        for link in links:
            found = None
            if visitor is not None:
                found = (visitor.on_callback if name == "link" else visitor.on_errback)(link, **headers)
            link.stamp(visitor, append, **gathered(headers, found, append=append))
        options[name] = links
