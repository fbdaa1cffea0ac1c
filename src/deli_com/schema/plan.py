"""Plans: how values of a writer's schema are read into a reader's types, where those are not the same.

`resolve` makes them; coding/adapt.pyx compiles them. A plan that has not `changed` is the reader's own
program for its node.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from deli_com.schema.tree import Field, Tree, Variant
from deli_com.types import nodes

__all__ = [
    "Around",
    "EnumPair",
    "Number",
    "Numbers",
    "Pair",
    "Plan",
    "Present",
    "Refer",
    "Resolution",
    "Rows",
    "Same",
    "SealedPair",
    "StructPair",
]


class Same:
    """The reader's own node, which reads what is sent."""

    __slots__ = ("node",)
    changed = False

    def __init__(self, node: nodes.Node) -> None:
        self.node = node


class Number:
    """A number that becomes one of a wider kind."""

    __slots__ = ("node", "source")
    changed = True

    def __init__(self, source: str, node: nodes.NumberNode) -> None:
        self.source = source
        self.node = node


class Numbers:
    """Numbers that become those of a wider kind, all in one go: a list, tuple, array or fixed array."""

    __slots__ = ("node", "source")
    changed = True

    def __init__(self, source: str, node: nodes.Node) -> None:
        self.source = source
        self.node = node


class Present:
    """``T`` there, ``T | None`` here."""

    __slots__ = ("item",)
    changed = True

    def __init__(self, item: Plan) -> None:
        self.item = item


class Around:
    """A list, tuple, fixed array, option or product, with the plans of what is in it."""

    __slots__ = ("items", "least", "node")

    def __init__(self, node: nodes.Node, items: tuple[Plan, ...], least: int = 0) -> None:
        self.node = node
        self.items = items
        self.least = least  # bytes of an element there

    @property
    def changed(self) -> bool:
        return any(item.changed for item in self.items)


class Rows:
    """A structured array of the pair's class."""

    __slots__ = ("least", "node", "pair")

    def __init__(self, node: nodes.StructuredNode, pair: StructPair, least: int) -> None:
        self.node = node
        self.pair = pair
        self.least = least

    @property
    def changed(self) -> bool:
        return self.pair.changed


class Refer:
    """A value of a pair."""

    __slots__ = ("node", "pair")

    def __init__(self, node: nodes.Node, pair: Pair) -> None:
        self.node = node
        self.pair = pair

    @property
    def changed(self) -> bool:
        return self.pair.changed


Plan: TypeAlias = Same | Number | Numbers | Present | Around | Rows | Refer


class StructPair:
    """A struct or variant of the writer, and a struct or variant class of the reader.

    Attributes
    ----------
    steps : list of (str, Plan) and Field
        In the writer's order: the reader's field and how it is read, or a field that is skipped.
    missing : list of (str, Node, default, factory)
        The reader's fields that nobody sends.
    """

    __slots__ = ("changed", "cls", "least", "missing", "recursive", "steps")

    def __init__(self, cls: Any, recursive: bool, least: int) -> None:
        self.cls = cls
        self.recursive = recursive
        self.least = least
        self.changed = False
        self.steps: list[tuple[str, Plan] | Field] = []
        self.missing: list[tuple[str, nodes.Node, Any, Any]] = []

    def plans(self) -> Iterator[Plan]:
        return (step[1] for step in self.steps if isinstance(step, tuple))


class SealedPair:
    """A sealed type of the writer, and a sealed class of the reader.

    Attributes
    ----------
    variants : list of StructPair and Variant
        By the writer's index; a `Variant` is one that the reader lacks.
    """

    __slots__ = ("changed", "cls", "least", "recursive", "variants")

    def __init__(self, cls: Any, recursive: bool, least: int) -> None:
        self.cls = cls
        self.recursive = recursive
        self.least = least
        self.changed = False
        self.variants: list[StructPair | Variant] = []


class EnumPair:
    """An enum of the writer, and one of the reader: its member for each index there, or None."""

    __slots__ = ("changed", "cls", "members")

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.changed = False
        self.members: list[Any] = []


Pair: TypeAlias = StructPair | SealedPair | EnumPair


class Resolution:
    """What is to be compiled.

    Attributes
    ----------
    plan : Plan
        Of the root.
    tree : Tree
        The writer's.
    sizes : dict of str to int
        Least bytes of a value of each of the writer's definitions.
    recursive : set of str
        Those that can hold themselves.
    """

    __slots__ = ("plan", "recursive", "sizes", "tree")

    def __init__(self, plan: Plan, tree: Tree, sizes: dict[str, int], again: set[str]) -> None:
        self.plan = plan
        self.tree = tree
        self.sizes = sizes
        self.recursive = again
