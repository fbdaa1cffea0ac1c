"""The classes that a type reaches: whether they are recursive, and the sizes of their values.

Errors of a whole type, rather than of one annotation, are found here, before anything is compiled and before
any list of variants is frozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from deli_com.types import nodes
from deli_com.types.declaration import FieldSpec, Spec
from deli_com.types.instance import record_spec
from deli_com.types.nodes import Size, children, size_of
from deli_com.types.references import Way, components, least_sizes, recursive

__all__ = ["MAX_SIZE", "Facts", "can_cycle", "check", "is_fixed", "size_in"]

MAX_SIZE = 2**40  # bytes; a larger least size is an error, so that sums stay far below 2^63

SHOWN_SIZE = 2**60  # larger sizes are shown as this


class Facts:
    """The result of `check` for one class."""

    __slots__ = ("fixed", "high", "low", "recursive")

    def __init__(self, low: int, high: int, recursive: bool, fixed: bool) -> None:
        self.low = low  # least bytes of a value
        self.high = high  # most bytes; -1 if unbounded
        self.recursive = recursive  # a value can contain one of its own class
        self.fixed = fixed  # all values have the same size and layout


class _Sizes:
    # Facts in the form that `size_of` takes.
    def __init__(self, facts: Mapping[Any, Facts]) -> None:
        self.facts = facts

    def __getitem__(self, cls: Any) -> Size:
        found = self.facts[cls]
        return found.low, inf if found.high < 0 else found.high


def size_in(node: nodes.Node, facts: Mapping[Any, Facts]) -> Size:
    """Least and most bytes of a value of `node`, whose classes `check` has covered."""
    return size_of(node, _Sizes(facts))


def classes_in(node: nodes.Node) -> Iterator[Any]:
    """The classes that `node` names, without those inside these."""
    if isinstance(node, (nodes.StructNode, nodes.SealedNode, nodes.UnionNode)):
        yield node.cls
    for child in children(node):
        yield from classes_in(child)


def is_fixed(node: nodes.Node, facts: Mapping[Any, Facts]) -> bool:
    """Whether all values have the same size and layout (no option, no variant)."""
    match node:
        case nodes.NumberNode() | nodes.EnumNode():
            return True
        case nodes.LeafNode(name):
            return name == "bool"
        case nodes.StructNode(cls):
            return facts[cls].fixed
        case nodes.ProductNode(items):
            return all(is_fixed(item, facts) for item in items)
        case nodes.FixedNode(item, _):
            return is_fixed(item, facts)
        case _:
            return False


def can_cycle(spec: Spec) -> bool:
    """Whether a value of a class under construction may contain itself, as far as is known now.

    True if a name is not resolved yet, or if a sealed class may still get variants. The result decides
    finally whether the class needs the garbage collector.

    A class that was complete without this one cannot reach it later. A class that waits for a name still may.
    Neither is walked again.
    still may: neither is walked again.
    """
    seen: set[Any] = set()
    todo = [spec]
    while todo:
        current = todo.pop()
        waiting = _waiting(current)
        if waiting is not None and waiting is not spec:
            spec.waits_for = waiting
            return True
        for item in current.fields:
            for cls in classes_in(item.node) if item.node is not None else ():
                if cls is spec.cls:
                    return True
                if cls not in seen:
                    seen.add(cls)
                    other = _spec(cls)
                    if not other.complete:
                        todo += [_spec(variant) for variant in other.variants.values()]
                        todo.append(other)
    for cls in seen:
        _spec(cls).complete = True
    return False


def _waiting(spec: Spec) -> FieldSpec | Spec | None:
    # A part of the class that may still change: a field without a node, or a sealed class; None if there is
    # none.
    for found in (spec.waits_for, *spec.fields):
        if isinstance(found, FieldSpec) and found.node is None:
            return found
    found = spec.waits_for if isinstance(spec.waits_for, Spec) else spec
    return found if found.sealed and not found.frozen_list else None


def check(root: nodes.Node, variant: Any = None) -> dict[Any, Facts]:
    """Resolve and check all classes that `root` reaches, then freeze the lists of variants.

    Parameters
    ----------
    root : Node
        The type to compile.
    variant : type, optional
        A variant that needs a codec of its own. Its sealed class is checked, too.

    Returns
    -------
    dict
        `Facts` of every class that is reached.

    Raises
    ------
    TypeError
        An annotation does not resolve or cannot be encoded, a union lacks a variant, a sealed class has none,
        or no value would be finite.
    """
    found: dict[Any, list[nodes.Node]] = {}
    todo: list[nodes.Node] = [root]
    if variant is not None:
        todo += [nodes.SealedNode(_spec(variant).variant_of), nodes.StructNode(variant)]
    while todo:
        node = todo.pop()
        todo += children(node)
        if isinstance(node, nodes.UnionNode):
            _check_union(node)
        if not isinstance(node, (nodes.StructNode, nodes.SealedNode, nodes.UnionNode)) or node.cls in found:
            continue
        spec = _spec(node.cls)
        if spec.sealed:
            if not spec.variants:
                raise TypeError(f"{spec.cls.__qualname__} is sealed and has no variants yet")
            parts: list[nodes.Node] = [nodes.StructNode(cls) for cls in spec.variants.values()]
        else:
            parts = [item for _, item in spec.nodes()]
        found[node.cls] = parts
        todo += parts

    facts = _facts(found)
    for cls in found:
        spec = _spec(cls)
        if spec.sealed:
            spec.frozen_list = True
    return facts


def _spec(cls: Any) -> Spec:
    spec = record_spec(cls)
    assert isinstance(spec, Spec)
    return spec


def _check_union(node: nodes.UnionNode) -> None:
    variants = _spec(node.cls).variants.values()
    missing = [cls.__qualname__ for cls in variants if cls not in node.named]
    if missing:
        raise TypeError(
            f"the union of variants of {node.cls.__qualname__} lacks {', '.join(missing)}: "
            f"name all of them, or write {node.cls.__qualname__}"
        )


def _facts(found: dict[Any, list[nodes.Node]]) -> dict[Any, Facts]:
    # In time proportional to classes and fields, because others may have written them (schema/load.py).
    lows = least_sizes([way for cls, parts in found.items() for way in _ways(cls, parts)])
    for cls in found:
        low = lows.get(cls)
        if low is None:
            raise TypeError(
                f"{cls.__qualname__} holds itself without a list or None in between: no value is finite"
            )
        if low > MAX_SIZE:
            raise TypeError(f"{cls.__qualname__} takes at least {low} bytes, over the limit of {MAX_SIZE}")
    inside = {cls: {name for part in parts for name in classes_in(part)} for cls, parts in found.items()}
    facts: dict[Any, Facts] = {}
    for component in components(inside):
        again = recursive(component, inside)
        for cls in component:
            high, fixed = inf, False
            if not again:  # a recursive class has no upper bound
                sealed = _spec(cls).sealed
                highs = [size_in(part, facts)[1] for part in found[cls]]
                high = 4 + max(highs) if sealed else sum(highs)
                fixed = not sealed and all(is_fixed(part, facts) for part in found[cls])
            facts[cls] = Facts(lows[cls], -1 if high == inf else int(high), again, fixed)
    return facts


def _ways(cls: Any, parts: list[nodes.Node]) -> list[Way[Any]]:
    # No generator: one that is closed without memory is reported.
    sealed = _spec(cls).sealed
    ways: list[Way[Any]] = []
    for some in [[part] for part in parts] if sealed else [parts]:

        def size(sizes: Mapping[Any, int], some: list[nodes.Node] = some) -> int:
            least = sum(size_of(part, _Lows(sizes))[0] for part in some)
            return int(min(least + 4 * sealed, SHOWN_SIZE))

        ways.append(Way(cls, {name for part in some for name in _needed(part)}, size))
    return ways


class _Lows:
    # Least sizes in the form that `size_of` takes; some may be unknown.
    def __init__(self, sizes: Mapping[Any, int]) -> None:
        self.sizes = sizes

    def __getitem__(self, cls: Any) -> Size:
        return self.sizes.get(cls, inf), inf


def _needed(node: nodes.Node) -> Iterator[Any]:
    # The classes of which every value of the node contains a value.
    match node:
        case nodes.StructNode(cls) | nodes.SealedNode(cls) | nodes.UnionNode(cls, _):
            yield cls
        case nodes.FixedNode(item, count) if count:
            yield from _needed(item)
        case nodes.ProductNode(items):
            for item in items:
                yield from _needed(item)
        case _:
            pass
