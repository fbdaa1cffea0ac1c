"""The classes that a type reaches: whether they are recursive, and how long their values are.

Everything that can be wrong with a whole type, rather than one annotation, is found here,
before anything is compiled or any list of variants frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

from deli_com.types import nodes
from deli_com.types.declaration import Spec
from deli_com.types.instance import record_spec
from deli_com.types.nodes import Size, children, size_of

__all__ = ["MAX_SIZE", "Facts", "can_cycle", "check", "is_fixed"]

MAX_SIZE = 2**40  # bytes; the least size of a value beyond this is a mistake, and sums stay far below 2^63


class Facts:
    """What `check` found about one class."""

    __slots__ = ("high", "low", "recursive")

    def __init__(self, low: int, high: int, recursive: bool) -> None:
        self.low = low  # least bytes of a value
        self.high = high  # most bytes, -1 where unbounded
        self.recursive = recursive  # a value can hold one of its own class


def classes_in(node: nodes.Node) -> Iterator[Any]:
    """The classes that `node` names, not looking into them."""
    if isinstance(node, (nodes.Struct, nodes.Sealed, nodes.Union)):
        yield node.cls
    for child in children(node):
        yield from classes_in(child)


def is_fixed(node: nodes.Node) -> bool:
    """Whether every value takes the same bytes, at the same places (no option, no variant)."""
    match node:
        case nodes.Number() | nodes.Enum():
            return True
        case nodes.Leaf(name):
            return name == "bool"
        case nodes.Struct(cls):
            return not _reaches(cls, cls) and all(is_fixed(item) for _, item in _spec(cls).nodes())
        case nodes.Product(items):
            return all(is_fixed(item) for item in items)
        case nodes.Fixed(item, _):
            return is_fixed(item)
        case _:
            return False


def can_cycle(spec: Spec) -> bool:
    """Whether a value of a class in the making can come to hold itself, as far as one can tell now.

    Yes where a name is not resolved yet, or where a sealed class may still get variants: the
    answer decides whether the class can do without the garbage collector, for good.
    """
    seen: set[Any] = set()
    todo = [spec]
    while todo:
        current = todo.pop()
        for item in current.fields:
            if item.node is None:
                return True
            for cls in classes_in(item.node):
                if cls is spec.cls:
                    return True
                if cls in seen:
                    continue
                seen.add(cls)
                other = _spec(cls)
                if other.sealed and not other.frozen_list:
                    return True
                todo += [_spec(variant) for variant in other.variants.values()]
                todo.append(other)
    return False


def check(root: nodes.Node, variant: Any = None) -> dict[Any, Facts]:
    """Resolve and check all that `root` reaches, then freeze the lists of variants.

    Parameters
    ----------
    root : Node
        The type about to be compiled.
    variant : type, optional
        A variant whose own codec is wanted; its sealed class is checked along.

    Returns
    -------
    dict
        `Facts` of every class reached.

    Raises
    ------
    TypeError
        An annotation does not resolve or has no wire form, a union lacks a variant, a sealed
        class has none, or a value could never end.
    """
    found: dict[Any, list[nodes.Node]] = {}
    todo: list[nodes.Node] = [root]
    if variant is not None:
        todo += [nodes.Sealed(_spec(variant).variant_of), nodes.Struct(variant)]
    while todo:
        node = todo.pop()
        todo += children(node)
        if isinstance(node, nodes.Union):
            _check_union(node)
        if not isinstance(node, (nodes.Struct, nodes.Sealed, nodes.Union)) or node.cls in found:
            continue
        spec = _spec(node.cls)
        if spec.sealed:
            if not spec.variants:
                raise TypeError(f"{spec.cls.__qualname__} is sealed and has no variants yet")
            parts: list[nodes.Node] = [nodes.Struct(cls) for cls in spec.variants.values()]
        else:
            parts = [item for _, item in spec.nodes()]
        found[node.cls] = parts
        todo += parts

    sizes = _sizes(found)
    facts: dict[Any, Facts] = {}
    for cls in found:
        low, high = sizes[cls]
        if low == inf:
            raise TypeError(
                f"{cls.__qualname__} holds itself without a list or None in between: no value could end"
            )
        if low > MAX_SIZE:
            raise TypeError(
                f"{cls.__qualname__} takes at least {int(low)} bytes, over the limit of {MAX_SIZE}"
            )
        facts[cls] = Facts(int(low), -1 if high == inf else int(high), _reaches(cls, cls))
    for cls in found:
        spec = _spec(cls)
        if spec.sealed:
            spec.frozen_list = True
    return facts


def _spec(cls: Any) -> Spec:
    spec = record_spec(cls)
    assert isinstance(spec, Spec)
    return spec


def _check_union(node: nodes.Union) -> None:
    variants = _spec(node.cls).variants.values()
    missing = [cls.__qualname__ for cls in variants if cls not in node.named]
    if missing:
        raise TypeError(
            f"the union of variants of {node.cls.__qualname__} lacks {', '.join(missing)}: "
            f"name all of them, or write {node.cls.__qualname__}"
        )


def _reaches(start: Any, goal: Any) -> bool:
    seen: set[Any] = set()
    todo = [start]
    while todo:
        spec = _spec(todo.pop())
        inside: list[Any] = list(spec.variants.values())
        if not spec.sealed:
            for _, item in spec.nodes():
                inside += classes_in(item)
        for cls in inside:
            if cls is goal:
                return True
            if cls not in seen:
                seen.add(cls)
                todo.append(cls)
    return False


def _sizes(found: dict[Any, list[nodes.Node]]) -> dict[Any, Size]:
    # Least fixed point from "no value ends". A recursive class has no bound above.
    sizes: dict[Any, Size] = dict.fromkeys(found, (inf, inf))
    while True:
        before = dict(sizes)
        for cls, parts in found.items():
            pairs = [size_of(part, sizes) for part in parts]
            if _spec(cls).sealed:
                sizes[cls] = 4 + min(low for low, _ in pairs), 4 + max(high for _, high in pairs)
            else:
                sizes[cls] = sum(low for low, _ in pairs), sum(high for _, high in pairs)
        if sizes == before:
            return sizes
