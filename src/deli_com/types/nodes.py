"""Plan nodes: what a type is on the wire, without a trace of how Python spelled it.

Nodes are made by schema.py and read by the compiler in coding/program.pyx. A struct is referred to
by its class, so that recursive types need no cyclic nodes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, TypeAlias

from deli_com.types.kinds import Kind

__all__ = [
    "Array",
    "Enum",
    "Fixed",
    "Leaf",
    "List",
    "NdArray",
    "Node",
    "Number",
    "Option",
    "Product",
    "Sealed",
    "Struct",
    "Structured",
    "Tuple",
    "Union",
]


@dataclass(frozen=True, slots=True)
class Number:
    """One of the ten kinds; the wire holds `kind.size` bytes."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Leaf:
    """``bool``, ``str`` or ``bytes``."""

    name: str


@dataclass(frozen=True, slots=True)
class Enum:
    """A unit-only enum: u32 index of the member in the order of definition."""

    cls: type[enum.Enum]


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct class: its fields in order, nothing between."""

    cls: Any


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed class: u32 index of the variant, then its fields."""

    cls: Any


@dataclass(frozen=True, slots=True)
class Union:
    """A written union of variants of `cls`; means `Sealed(cls)` if it names them all."""

    cls: Any
    named: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """``T | None``: u8 0 or 1, then the value."""

    item: Node


@dataclass(frozen=True, slots=True)
class List:
    """``list[T]``: u32 count, elements."""

    item: Node


@dataclass(frozen=True, slots=True)
class Tuple:
    """``tuple[T, ...]``: as `List`."""

    item: Node


@dataclass(frozen=True, slots=True)
class Product:
    """``tuple[A, B]``: elements in order."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Fixed:
    """``FixedArray[T, N]``: `count` elements."""

    item: Node
    count: int


@dataclass(frozen=True, slots=True)
class Array:
    """``Array[T]``: u32 count, packed numbers, as one buffer."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class NdArray:
    """``NDArray[T]``: as `Array`, a 1-D ndarray when decoded."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Structured:
    """``Annotated[NDArray[np.void], Struct]``: the bytes of ``list[Struct]``."""

    cls: Any


Node: TypeAlias = (
    Number
    | Leaf
    | Enum
    | Struct
    | Sealed
    | Union
    | Option
    | List
    | Tuple
    | Product
    | Fixed
    | Array
    | NdArray
    | Structured
)


def children(node: Node) -> tuple[Node, ...]:
    """Nodes directly inside `node`, without looking into classes."""
    match node:
        case Option(item) | List(item) | Tuple(item) | Fixed(item, _):
            return (item,)
        case Product(items):
            return items
        case Structured(cls):
            return (Struct(cls),)
        case _:
            return ()


Size: TypeAlias = tuple[float, float]  # least and most bytes; inf where there is no bound


class Sizes(Protocol):
    """Sizes by class; a dict is one."""

    def __getitem__(self, cls: Any, /) -> Size: ...


def size_of(node: Node, sizes: Sizes) -> Size:
    """Least and most bytes of a value of `node`; `sizes` has those of the classes it names."""
    match node:
        case Number(kind):
            return kind.size, kind.size
        case Leaf("bool"):
            return 1, 1
        case Enum():
            return 4, 4
        case Struct(cls) | Sealed(cls) | Union(cls, _):
            return sizes[cls]
        case Option(item):
            return 1, 1 + size_of(item, sizes)[1]
        case Product(items):
            pairs = [size_of(item, sizes) for item in items]
            return sum(low for low, _ in pairs), sum(high for _, high in pairs)
        case Fixed(item, count):
            low, high = size_of(item, sizes)
            return (low * count, high * count) if count else (0, 0)
        case _:
            return 4, inf
