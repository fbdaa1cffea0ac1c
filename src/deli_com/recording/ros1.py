"""Message definitions of ROS 1 for types whose bytes are the same there.

The wire is ROS 1's serialization of numbers, bool, str, bytes, lists, fixed arrays and structs of such. An
enum is a uint32 there, the index of a variant a leading field ``uint32 variant``. A list of lists and a tuple
become messages of their own, which add no byte. Nothing stands for ``T | None``, recursion, or a sealed type
within another type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deli_com.schema.tree import (
    Definition,
    Enum,
    Field,
    Fixed,
    List,
    Product,
    Ref,
    Scalar,
    Sealed,
    Struct,
    Tree,
    Type,
    Variant,
)

__all__ = ["PACKAGE", "ros1_definition"]

PACKAGE = "deli"
SEPARATOR = "=" * 80
SCALARS = {"bool": "bool", "str": "string", "bytes": "uint8[]", "f32": "float32", "f64": "float64"}
SCALARS |= {f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}
SCALARS |= {f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}


class _Inexpressible(Exception):
    pass


class _Messages:
    # The messages that one definition needs, in the order met. Each is its name and its lines.

    def __init__(self, tree: Tree) -> None:
        self.definitions: dict[str, Definition] = {found.name: found for found in tree.definitions}
        self.texts: dict[str, list[str]] = {}
        self.open: set[str] = set()  # being written: met again, it is recursive

    def struct(self, name: str, fields: tuple[Field, ...], first: tuple[str, ...] = ()) -> list[str]:
        lines, used = [*first], {line.split()[-1] for line in first}
        labels = [_label(field.name, used) for field in fields]
        for field, label in zip(fields, labels, strict=True):
            if isinstance(field.type, Ref) and isinstance(found := self.definitions[field.type.name], Enum):
                lines += _constants(found, used)
            lines.append(f"{self.type(field.type, f'{name}_{label}')} {label}")
        return lines

    def type(self, type: Type, hint: str) -> str:
        # How a field of that type is declared. `hint` names a message that has no name of its own.
        match type:
            case Scalar(name):
                return SCALARS[name]
            case Ref(name):
                return self.definition(name)
            case List(item):
                return f"{self.item(item, hint)}[]"
            case Fixed(item, count):
                return f"{self.item(item, hint)}[{count}]"
            case Product(items):
                fields = tuple(Field(f"item{number}", item) for number, item in enumerate(items))
                return self.add(hint, fields)
        raise _Inexpressible  # Option

    def item(self, type: Type, hint: str) -> str:
        # The same for an item of an array: ROS 1 has no arrays of arrays.
        if isinstance(type, List | Fixed) or type == Scalar("bytes"):
            return self.add(f"{hint}_item", (Field("data", type),))
        return self.type(type, hint)

    def definition(self, name: str) -> str:
        match self.definitions[name]:
            case Enum():
                return "uint32"
            case Struct(_, fields):
                if name in self.open:
                    raise _Inexpressible
                if name not in self.texts:
                    self.open.add(name)
                    self.texts[name] = []  # its place in the order
                    self.texts[name] = self.struct(name, fields)
                    self.open.discard(name)
                return f"{PACKAGE}/{name}"
        raise _Inexpressible  # Sealed

    def add(self, hint: str, fields: tuple[Field, ...]) -> str:
        name = hint
        while name in self.texts or name in self.definitions:
            name += "_"
        self.texts[name] = []
        self.texts[name] = self.struct(name, fields)
        return f"{PACKAGE}/{name}"


def _label(name: str, used: set[str]) -> str:
    # ROS 1 takes letters first.
    label = name if re.match("[A-Za-z]", name) else f"f{name}"
    while label in used:
        label += "_"
    used.add(label)
    return label


def _constants(enum: Enum, used: set[str]) -> Iterator[str]:
    # Constants before a field of their type are how viewers know its names; they take no bytes.
    if used.isdisjoint(enum.members) and all(re.match("[A-Za-z]", name) for name in enum.members):
        used.update(enum.members)
        for number, name in enumerate(enum.members):
            yield f"uint32 {name}={number}"


def ros1_definition(tree: Tree, variant: Variant | None = None) -> tuple[str, str] | None:
    """What a ``ros1msg`` schema record says of the root of a tree, or of one variant of it.

    Parameters
    ----------
    tree : Tree
        Of a schema.
    variant : Variant, optional
        Of the root, if that is a sealed type.

    Returns
    -------
    (str, str) or None
        Name and text; None where ROS 1 has no such bytes.
    """
    messages = _Messages(tree)
    try:
        if variant is not None:
            messages.open.add(str(tree.root))
            name, lines = variant.name, messages.struct(variant.name, variant.fields, ("uint32 variant",))
        elif isinstance(tree.root, Ref) and isinstance(root := messages.definitions[tree.root.name], Struct):
            messages.open.add(root.name)
            name, lines = root.name, messages.struct(root.name, root.fields)
        elif isinstance(tree.root, Ref) and isinstance(messages.definitions[tree.root.name], Sealed):
            return None
        else:
            name, lines = "Value", messages.struct("Value", (Field("value", tree.root),))
    except _Inexpressible:
        return None
    parts = ["\n".join([*lines, ""])]
    for other, text in messages.texts.items():
        parts.append("\n".join([SEPARATOR, f"MSG: {PACKAGE}/{other}", *(text or [""]), ""]))
    return f"{PACKAGE}/{name}", "".join(parts)
