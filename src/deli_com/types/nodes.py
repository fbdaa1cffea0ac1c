"""Plan nodes: the wire form of a type, independent of how Python spells it.

types/annotations.py makes the nodes, and coding/program.pyx compiles them. A struct is referred to by its
class, so recursive types need no cyclic nodes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, TypeAlias

from deli_com.types.kinds import Kind

__all__ = [
    "ArrayNode",
    "EnumNode",
    "FixedNode",
    "LeafNode",
    "ListNode",
    "NdArrayNode",
    "Node",
    "NumberNode",
    "OptionNode",
    "ProductNode",
    "SealedNode",
    "ShapedNode",
    "StructNode",
    "StructuredNode",
    "TupleNode",
    "UnionNode",
]


@dataclass(frozen=True, slots=True)
class NumberNode:
    """One of the ten kinds; the wire holds `kind.size` bytes. `nanoseconds`: a moment, u64 or i64."""

    kind: Kind
    nanoseconds: bool = False


@dataclass(frozen=True, slots=True)
class LeafNode:
    """``bool``, ``str`` or ``bytes``."""

    name: str


@dataclass(frozen=True, slots=True)
class EnumNode:
    """An enum without data: u32 index of the member in the order of definition."""

    cls: type[enum.Enum]


@dataclass(frozen=True, slots=True)
class StructNode:
    """A struct class: its fields in order, with nothing between them."""

    cls: Any


@dataclass(frozen=True, slots=True)
class SealedNode:
    """A sealed class: u32 index of the variant, then the fields of that variant."""

    cls: Any


@dataclass(frozen=True, slots=True)
class UnionNode:
    """A union of variants of `cls`. It means `SealedNode(cls)`, and must name all variants."""

    cls: Any
    named: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class OptionNode:
    """``T | None``: a u8 that is 0 or 1; after 1, the value."""

    item: Node


@dataclass(frozen=True, slots=True)
class ListNode:
    """``list[T]``: a u32 count, then the elements."""

    item: Node


@dataclass(frozen=True, slots=True)
class TupleNode:
    """``tuple[T, ...]``: as `ListNode`."""

    item: Node


@dataclass(frozen=True, slots=True)
class ProductNode:
    """``tuple[A, B]``: the elements in order."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class FixedNode:
    """``FixedArray[T, N]``: `count` elements, without a count on the wire."""

    item: Node
    count: int


@dataclass(frozen=True, slots=True)
class ArrayNode:
    """``Array[T]``: a u32 count, then packed numbers; one buffer."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class NdArrayNode:
    """``NDArray[T]``: as `ArrayNode`; decoding gives a 1-D ndarray."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class StructuredNode:
    """``Annotated[NDArray[np.void], Struct]``: the bytes of ``list[Struct]``."""

    cls: Any


@dataclass(frozen=True, slots=True)
class ShapedNode:
    """An `NdArrayNode` or `StructuredNode` with a shape; on the wire as without.

    `dims` are lengths, and names of integer fields of the struct that the array is in.
    """

    item: Node
    dims: tuple[str | int, ...]


Node: TypeAlias = (
    NumberNode
    | LeafNode
    | EnumNode
    | StructNode
    | SealedNode
    | UnionNode
    | OptionNode
    | ListNode
    | TupleNode
    | ProductNode
    | FixedNode
    | ArrayNode
    | NdArrayNode
    | StructuredNode
    | ShapedNode
)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly inside `node`, without those in its classes."""
    match node:
        case OptionNode(item) | ListNode(item) | TupleNode(item) | FixedNode(item, _) | ShapedNode(item, _):
            return (item,)
        case ProductNode(items):
            return items
        case StructuredNode(cls):
            return (StructNode(cls),)
        case _:
            return ()


Size: TypeAlias = tuple[float, float]  # least and most bytes; inf if unbounded


class Sizes(Protocol):
    """Sizes by class, for example a dict."""

    def __getitem__(self, cls: Any, /) -> Size: ...


def size_of(node: Node, sizes: Sizes) -> Size:
    """Least and most bytes of a value of `node`. `sizes` holds those of the classes that it names."""
    match node:
        case NumberNode(kind):
            return kind.size, kind.size
        case LeafNode("bool"):
            return 1, 1
        case EnumNode():
            return 4, 4
        case StructNode(cls) | SealedNode(cls) | UnionNode(cls, _):
            return sizes[cls]
        case OptionNode(item):
            return 1, 1 + size_of(item, sizes)[1]
        case ProductNode(items):
            pairs = [size_of(item, sizes) for item in items]
            return sum(low for low, _ in pairs), sum(high for _, high in pairs)
        case FixedNode(item, count):
            low, high = size_of(item, sizes)
            return (low * count, high * count) if count else (0, 0)
        case _:
            return 4, inf
