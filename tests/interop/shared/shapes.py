"""Canvases made by one code with Umbel and with a real Celery; ``python -m shared.shapes`` prints Celery's forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def shapes(home: Any, visitors: Any, app: Any) -> dict[str, Callable[[], Any]]:
    """Makers of canvases by name. ``home``: the package; ``visitors``: where its StampingVisitor is."""
    chain, chord, group, chunks = home.chain, home.chord, home.group, home.chunks
    xmap, xstarmap = home.xmap, home.xstarmap

    def add(*args: Any, **kwargs: Any) -> Any:
        return app.signature("shared.add", args, kwargs)

    def then(sig: Any, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """The signature after a call of one of its methods, which may return something else."""
        getattr(sig, method)(*args, **kwargs)
        return sig

    a, b, c = (lambda: add(1, 1)), (lambda: add(2)), (lambda: add(3))
    two = lambda: group(a(), b())
    linked = lambda: then(then(a(), "link", b()), "link_error", c())

    class Marks(visitors.StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> Any:
            return {"of": str(sig.args)}

    class Everything(Marks):
        def on_group_start(self, sig: Any, **headers: Any) -> Any:
            return {"in_group": True}

        def on_chain_start(self, sig: Any, **headers: Any) -> Any:
            return {"links": len(sig.tasks)}

        def on_chord_body(self, sig: Any, **headers: Any) -> Any:
            return {"body": "yes"}

        def on_callback(self, callback: Any, **headers: Any) -> Any:
            return {"called": 1}

        def on_errback(self, errback: Any, **headers: Any) -> Any:
            return {"on_error": 1}

    class Named(visitors.StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> Any:
            return {"mark": 1, "priority": 5, "stamped_headers": ["mark"]}

    return {
        "single": a,
        "kwargs": lambda: add(1, y=2),
        "options": lambda: a().set(queue="q", priority=3),
        "immutable": lambda: a().set(immutable=True),
        "set_immutable": lambda: then(a(), "set_immutable", True),
        "partial": lambda: add(2).clone((1,), {"z": 3}, queue="q"),
        "partial of immutable": lambda: a().set(immutable=True).clone((9,)),
        "replace": lambda: a().replace(args=(5,), kwargs={"y": 1}, options={"queue": "q"}),
        "link": lambda: then(a(), "link", b()),
        "link twice": lambda: then(then(a(), "link", b()), "link", c()),
        "same link twice": lambda: then(then(a(), "link", b()), "link", b()),
        "errbacks": lambda: a().on_error(b()).on_error(c()),
        "extended": lambda: then(a(), "extend_list_option", "link", [b(), c()]),
        "chain": lambda: chain(a(), b(), c()),
        "chain of a list": lambda: chain([a(), b()]),
        "pipes": lambda: a() | b() | c(),
        "chain of one": lambda: chain(a()),
        "chain then call": lambda: chain(a(), b()) | c(),
        "call then chain": lambda: a() | chain(b(), c()),
        "chain then chain": lambda: chain(a(), b()) | chain(b(), c()),
        "partial chain": lambda: chain(b(), c()).clone((7,)),
        "chain with link": lambda: then(chain(a(), b()), "link", c()),
        "group": two,
        "group of a list": lambda: group([a(), b()]),
        "group of one": lambda: group(a()),
        "empty group": lambda: group(),
        "group in group": lambda: group(two(), c()),
        "group of chains": lambda: group(chain(a(), b()), chain(a(), c())),
        "partial group": lambda: group(b(), c()).clone((7,)),
        "immutable group": lambda: then(two(), "set_immutable", True),
        "skewed": lambda: two().skew(start=1, stop=3),
        "group with link": lambda: then(two(), "link", c()),
        "group with errback": lambda: then(two(), "link_error", c()),
        "call then group": lambda: a() | group(b(), c()),
        "group then call": lambda: two() | c(),
        "group then two": lambda: two() | c() | b(),
        "group then group": lambda: two() | group(b(), c()),
        "call, group, call": lambda: a() | group(b(), c()) | b(),
        "chord": lambda: chord([a(), b()], c()),
        "chord of group": lambda: chord(two(), c()),
        "chord of chains": lambda: chord([chain(a(), b())], c()),
        "chord then call": lambda: chord([a()], b()) | c(),
        "call then chord": lambda: a() | chord([b()], c()),
        "chord in chord": lambda: chord([chord([a()], b()), a()], c()),
        "chord with link": lambda: then(chord([a()], b()), "link", c()),
        "chord with errback": lambda: then(chord([a()], b()), "link_error", c()),
        "map": lambda: xmap(add(), [1, 2]),
        "starmap": lambda: xstarmap(add(), [(1, 2), (3, 4)]),
        "chunks": lambda: chunks(add(), [(1, 2), (3, 4), (5, 6)], 2),
        "chunks as group": lambda: chunks(add(), [(1, 2), (3, 4), (5, 6)], 2).group(),
        "stamped": lambda: then(a(), "stamp", tenant="acme"),
        "stamped by list": lambda: then(a(), "stamp", tags=["x", "y"]),
        "stamped again": lambda: then(then(a(), "stamp", x=1), "stamp", x=2, y=3),
        "stamps appended": lambda: then(then(a(), "stamp", x=1), "stamp", append_stamps=True, x=2, y=3),
        "lists stamped again": lambda: then(then(a(), "stamp", x=[1]), "stamp", x=[2]),
        "lists appended": lambda: then(then(a(), "stamp", x=[1]), "stamp", append_stamps=True, x=2),
        "visited": lambda: then(a(), "stamp", Marks(), tenant="acme"),
        "visited twice": lambda: then(then(a(), "stamp", Marks()), "stamp", Marks(), append_stamps=True),
        "visitor against keyword": lambda: then(a(), "stamp", Marks(), of="mine"),
        "named stamps": lambda: then(a(), "stamp", Named()),
        "stamped links": lambda: then(linked(), "stamp", tenant="acme"),
        "visited links": lambda: then(linked(), "stamp", Everything()),
        "only links": lambda: then(linked(), "stamp_links", Everything(), tenant="acme"),
        "own stamps and links": lambda: then(
            then(linked(), "set", stamped_headers=["own"], own=1), "stamp", tenant="acme"
        ),
        "stamped chain": lambda: then(chain(a(), b()), "stamp", tenant="acme"),
        "visited chain": lambda: then(chain(a(), b()), "stamp", Everything(), tenant="acme"),
        "visited chain with links": lambda: then(chain(linked(), b()), "stamp", Everything()),
        "visited group": lambda: then(two(), "stamp", Everything(), tenant="acme"),
        "visited chord": lambda: then(chord([a(), b()], c()), "stamp", Everything(), tenant="acme"),
        "visited chord of chains": lambda: then(chord([chain(a(), b()), a()], c()), "stamp", Everything()),
        "visited chain of groups": lambda: then(a() | group(b(), c()) | b(), "stamp", Everything()),
        "visited map": lambda: then(xmap(add(), [1]), "stamp", Marks()),
    }


def form(canvas: Any) -> Any:
    """As plain JSON values, names of stamps in order, headers of chords as lists: in messages both are in use."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(header := value.get("header"), dict):
                value = {**value, "header": header["kwargs"]["tasks"]}
            return {
                key: sorted(held) if key == "stamped_headers" else plain(held)
                for key, held in value.items()
                if held is not None
            }
        return [plain(held) for held in value] if isinstance(value, (list, tuple)) else value

    return json.loads(json.dumps(plain(canvas)))


def forms(home: Any, visitors: Any, app: Any) -> dict[str, Any]:
    """The form of each canvas."""
    return {name: form(make()) for name, make in shapes(home, visitors, app).items()}


if __name__ == "__main__":
    import celery
    import celery.canvas

    print(json.dumps(forms(celery, celery.canvas, celery.Celery("shapes", set_as_current=True))))
