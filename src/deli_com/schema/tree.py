"""A schema as a tree, for programs that walk it (generators, recorder, viewer).

::

    Tree ── root: Type
         └─ definitions: Struct | Sealed | Enum, in the order of the text
              Struct ── fields: Field ── type: Type, notes
              Sealed ── variants: Variant ── fields: Field
              Enum ──── members: str

    Type = Scalar | Ref | List | Fixed | Option | Product

All nodes are immutable and compare by value. `str` of a type, a field or a note gives its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

__all__ = [
    "FLOATS",
    "INTEGERS",
    "SCALARS",
    "SIZES",
    "Definition",
    "Enum",
    "Field",
    "Fixed",
    "List",
    "Note",
    "Option",
    "Product",
    "Ref",
    "Scalar",
    "Sealed",
    "Struct",
    "Tree",
    "Type",
    "Variant",
    "find_note",
    "refs",
]

INTEGERS = ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64")
FLOATS = ("f32", "f64")
SCALARS = (*INTEGERS, *FLOATS, "bool", "str", "bytes")
# Size in bytes on the wire of the scalars with a fixed width.
SIZES: Mapping[str, int] = MappingProxyType(
    {"bool": 1, **{name: int(name[1:]) // 8 for name in (*INTEGERS, *FLOATS)}}
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """``u8`` to ``f64``, ``bool``, ``str`` or ``bytes``. ``[u8]`` is always given as ``bytes``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to a definition by its name in this schema."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class List:
    """``[T]``: a u32 count, then the elements."""

    item: Type

    def __str__(self) -> str:
        return f"[{self.item}]"


@dataclass(frozen=True, slots=True)
class Fixed:
    """``[T;N]``: `count` elements, without a count on the wire."""

    item: Type
    count: int

    def __str__(self) -> str:
        return f"[{self.item};{self.count}]"


@dataclass(frozen=True, slots=True)
class Option:
    """``T?``: a u8 that is 0 or 1; after 1, the value."""

    item: Type

    def __str__(self) -> str:
        return f"{self.item}?"


@dataclass(frozen=True, slots=True)
class Product:
    """``(A,B)``: the items in order."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"({','.join(map(str, self.items))})"


Type: TypeAlias = Scalar | Ref | List | Fixed | Option | Product


@dataclass(frozen=True, slots=True)
class Note:
    """``@word(arg,arg)``: describes delivery or meaning. It never changes the bytes.

    Attributes
    ----------
    word : str
        Without the ``@``. Unknown words are kept.
    args : tuple of str
        Names and numbers, as written.
    """

    word: str
    args: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"@{self.word}({','.join(self.args)})" if self.args else f"@{self.word}"


def find_note(notes: tuple[Note, ...], word: str) -> Note | None:
    """The first note of that word, or None."""
    return next((note for note in notes if note.word == word), None)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct or variant, in wire order."""

    name: str
    type: Type
    notes: tuple[Note, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.name, str(self.type), *map(str, self.notes)])


@dataclass(frozen=True, slots=True)
class Struct:
    """Its fields in order, with nothing between them."""

    name: str
    fields: tuple[Field, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """One choice of a sealed type. Its index is its position. The fields of the sealed base come first."""

    name: str
    fields: tuple[Field, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A choice: u32 index of the variant, then the fields of that variant."""

    name: str
    variants: tuple[Variant, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Enum:
    """A u32 index of the member, in this order."""

    name: str
    members: tuple[str, ...]


Definition: TypeAlias = Struct | Sealed | Enum


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole schema.

    Attributes
    ----------
    root : Type
        Type of a message.
    definitions : tuple of Struct, Sealed and Enum
        In the order of the text. Each is reachable from the root.
    by_name : mapping of str to Definition
        The same definitions, by name.
    """

    root: Type
    definitions: tuple[Definition, ...]

    @property
    def by_name(self) -> Mapping[str, Definition]:
        return {item.name: item for item in self.definitions}


def refs(tp: Type) -> Iterator[str]:
    """The names that a type refers to, from left to right."""
    match tp:
        case Ref(name):
            yield name
        case List(item) | Fixed(item, _) | Option(item):
            yield from refs(item)
        case Product(items):
            for item in items:
                yield from refs(item)
        case _:
            pass


def types_in(definition: Definition) -> Iterator[Type]:
    """The types of all fields of a definition, in the order of the text."""
    if isinstance(definition, Struct):
        for field in definition.fields:
            yield field.type
    elif isinstance(definition, Sealed):
        for variant in definition.variants:
            for field in variant.fields:
                yield field.type
