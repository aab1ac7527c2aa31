"""Boot steps as a graph in DOT, the language of graphviz: an arrow points to what a step requires."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from umbel.bootsteps.blueprint import Blueprint


def draw(blueprints: Iterable[Blueprint]) -> str:
    """The graph of blueprints, a box around each. Steps that users added are filled, conditional ones dashed; the
    number is the step's place in the order of starting. Raises StepError for steps that cannot be ordered."""
    lines = [
        "digraph bootsteps {",
        "  rankdir=BT;",
        '  node [shape=box, fontname="sans-serif"];',
    ]
    for blueprint in blueprints:
        lines += [f"  {line}" for line in _cluster(blueprint)]
    return "\n".join([*lines, "}"]) + "\n"


def _cluster(blueprint: Blueprint) -> Iterator[str]:
    order = blueprint.order()
    node = {step: _quoted(f"{blueprint.name}:{step.name}") for step in order}
    yield f"subgraph {_quoted(f'cluster_{blueprint.name}')} {{"
    yield f"  label={_quoted(blueprint.name)};"
    for place, step in enumerate(order, 1):
        styles = ["filled"] * (step not in blueprint.default_steps) + ["dashed"] * step.conditional
        style = f", style={_quoted(','.join(styles))}" if styles else ""
        yield f"  {node[step]} [label={_quoted(f'{place} {step.label or step.__name__}')}{style}];"
    for step, needed in order.items():
        for each in sorted(needed, key=lambda other: other.name):
            yield f"  {node[step]} -> {node[each]};"
    yield "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
