"""Plans: how values of a writer's schema are read into a reader's types that differ from it.

`resolve` makes them; coding/adapt.pyx compiles them. A plan with ``changed`` False needs no conversion: the
reader's own program reads the values.
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
    """The reader's own node reads the bytes unchanged."""

    __slots__ = ("node",)
    changed = False

    def __init__(self, node: nodes.Node) -> None:
        self.node = node


class Number:
    """A number that is converted to a wider kind."""

    __slots__ = ("node", "source")
    changed = True

    def __init__(self, source: str, node: nodes.NumberNode) -> None:
        self.source = source
        self.node = node


class Numbers:
    """A list, tuple, array or fixed array of numbers that are all converted to a wider kind."""

    __slots__ = ("node", "source")
    changed = True

    def __init__(self, source: str, node: nodes.Node) -> None:
        self.source = source
        self.node = node


class Present:
    """The writer has ``T``, the reader has ``T | None``."""

    __slots__ = ("item",)
    changed = True

    def __init__(self, item: Plan) -> None:
        self.item = item


class Around:
    """A list, tuple, fixed array, option or product, with the plans of its items."""

    __slots__ = ("items", "least", "node")

    def __init__(self, node: nodes.Node, items: tuple[Plan, ...], least: int = 0) -> None:
        self.node = node
        self.items = items
        self.least = least  # least bytes of an element of the writer

    @property
    def changed(self) -> bool:
        return any(item.changed for item in self.items)


class Rows:
    """A structured array, whose rows are of the pair's class."""

    __slots__ = ("least", "node", "pair")

    def __init__(self, node: nodes.StructuredNode, pair: StructPair, least: int) -> None:
        self.node = node
        self.pair = pair
        self.least = least

    @property
    def changed(self) -> bool:
        return self.pair.changed


class Refer:
    """A value that a pair describes."""

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
        In the writer's order: a field of the reader with its plan, or a field of the writer that is skipped.
    missing : list of (str, Node, default, factory)
        The reader's fields that the writer does not send.
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
        By the writer's index. A `Variant` is one that the reader lacks.
    """

    __slots__ = ("changed", "cls", "least", "recursive", "variants")

    def __init__(self, cls: Any, recursive: bool, least: int) -> None:
        self.cls = cls
        self.recursive = recursive
        self.least = least
        self.changed = False
        self.variants: list[StructPair | Variant] = []


class EnumPair:
    """An enum of the writer, and one of the reader: its member for each index of the writer, or None."""

    __slots__ = ("changed", "cls", "members")

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.changed = False
        self.members: list[Any] = []


Pair: TypeAlias = StructPair | SealedPair | EnumPair


class Resolution:
    """The input of the compiler.

    Attributes
    ----------
    plan : Plan
        Plan of the root.
    tree : Tree
        The writer's schema.
    sizes : dict of str to int
        Least bytes of a value of each of the writer's definitions.
    recursive : set of str
        Names of the writer's definitions that can contain themselves.
    """

    __slots__ = ("plan", "recursive", "sizes", "tree")

    def __init__(self, plan: Plan, tree: Tree, sizes: dict[str, int], again: set[str]) -> None:
        self.plan = plan
        self.tree = tree
        self.sizes = sizes
        self.recursive = again
