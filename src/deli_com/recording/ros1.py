"""ROS 1 message definitions for types that have the same bytes in ROS 1.

The wire format equals the serialization of ROS 1 for numbers, bool, str, bytes, lists, fixed arrays, and
structs of these. An enum becomes a uint32, and the index of a variant a leading field ``uint32 variant``. A
list of lists and a tuple become messages of their own, which add no bytes. ROS 1 cannot express ``T | None``,
recursion, or a sealed type inside another type.
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
    # The messages that one definition needs, in the order of use: name and lines of each.

    def __init__(self, tree: Tree) -> None:
        self.definitions: dict[str, Definition] = {found.name: found for found in tree.definitions}
        self.texts: dict[str, list[str]] = {}
        self.open: set[str] = set()  # messages under construction; a second visit means recursion
        self.named: dict[str, str] = {}  # definitions to the names of their messages

    def struct(self, name: str, fields: tuple[Field, ...], first: tuple[str, ...] = ()) -> list[str]:
        lines, used = [*first], {line.split()[-1] for line in first}
        labels = [_label(field.name, used) for field in fields]
        for field, label in zip(fields, labels, strict=True):
            if isinstance(field.type, Ref) and isinstance(found := self.definitions[field.type.name], Enum):
                lines += _constants(found, used)
            lines.append(f"{self.type(field.type, f'{name}_{label}')} {label}")
        return lines

    def type(self, type: Type, hint: str) -> str:
        # The declaration of a field's type. `hint` names a message for a type without a name.
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
        # The declaration of an array item. ROS 1 has no arrays of arrays.
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
                message = self.name(name)
                if message not in self.texts:
                    self.open.add(name)
                    self.texts[message] = []  # reserves its position in the order
                    self.texts[message] = self.struct(message, fields)
                    self.open.discard(name)
                return f"{PACKAGE}/{message}"
        raise _Inexpressible  # Sealed

    def name(self, name: str) -> str:
        # The name of the message of a definition. Names in ROS 1 begin with a letter.
        found = self.named.get(name)
        if found is None:
            found = name
            if name.startswith("_"):
                found = f"M{name}"
                while found in self.texts or found in self.definitions or found in self.named.values():
                    found += "_"
            self.named[name] = found
        return found

    def add(self, hint: str, fields: tuple[Field, ...]) -> str:
        name = hint
        while name in self.texts or name in self.definitions or name in self.named.values():
            name += "_"
        self.texts[name] = []
        self.texts[name] = self.struct(name, fields)
        return f"{PACKAGE}/{name}"


def _label(name: str, used: set[str]) -> str:
    # Names in ROS 1 begin with a letter.
    label = name if re.match("[A-Za-z]", name) else f"f{name}"
    while label in used:
        label += "_"
    used.add(label)
    return label


def _constants(enum: Enum, used: set[str]) -> Iterator[str]:
    # Constants before a field of their type tell viewers the names of its values. They take no bytes.
    if used.isdisjoint(enum.members) and all(re.match("[A-Za-z]", name) for name in enum.members):
        used.update(enum.members)
        for number, name in enumerate(enum.members):
            yield f"uint32 {name}={number}"


def ros1_definition(tree: Tree, variant: Variant | None = None) -> tuple[str, str] | None:
    """The name and text of a ``ros1msg`` schema record for the root of a tree, or for one variant of it.

    Parameters
    ----------
    tree : Tree
        Tree of a schema.
    variant : Variant, optional
        Variant of the root, if the root is a sealed type.

    Returns
    -------
    (str, str) or None
        Name and text; None if ROS 1 cannot express these bytes.
    """
    messages = _Messages(tree)
    try:
        if variant is not None:
            messages.open.add(str(tree.root))
            name = messages.name(variant.name)
            lines = messages.struct(name, variant.fields, ("uint32 variant",))
        elif isinstance(tree.root, Ref) and isinstance(root := messages.definitions[tree.root.name], Struct):
            messages.open.add(root.name)
            name = messages.name(root.name)
            lines = messages.struct(name, root.fields)
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
