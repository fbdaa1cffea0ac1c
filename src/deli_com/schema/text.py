"""Plan nodes to a schema tree, and the tree to text (docs/wire.md section 9)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deli_com.schema import tree
from deli_com.types import nodes
from deli_com.types.declaration import Spec
from deli_com.types.delivery import Delivery
from deli_com.types.instance import RecordType, record_spec

__all__ = [
    "WIRE_NAME",
    "WIRE_NAMES",
    "member_names",
    "render",
    "tree_of",
    "type_of",
    "wire_name",
    "without_notes",
]

# Attributes of classes made from a text. They hold names that are not possible in Python.
WIRE_NAME = "__wire_name__"
WIRE_NAMES = "__wire_names__"  # names of an enum's members

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_NOTES = re.compile(r" @[^\n]*")


def render(found: tree.Tree) -> str:
    """The text of a tree. Equal trees give equal bytes."""
    lines = ["deli 1", f"root {found.root}"]
    for item in found.definitions:
        if isinstance(item, tree.Struct):
            lines.append(_line(f"struct {item.name}", item.notes))
            lines += [f" {field}" for field in item.fields]
        elif isinstance(item, tree.Sealed):
            lines.append(_line(f"sealed {item.name}", item.notes))
            for i, variant in enumerate(item.variants):
                lines.append(_line(f" {i} {variant.name}", variant.notes))
                lines += [f"  {field}" for field in variant.fields]
        else:
            lines.append(f"enum {item.name}")
            lines += [f" {i} {member}" for i, member in enumerate(item.members)]
    return "\n".join(lines) + "\n"


def _line(start: str, notes: tuple[tree.Note, ...]) -> str:
    return " ".join([start, *map(str, notes)])


def without_notes(text: str) -> str:
    """The text from which the hash is computed."""
    return _NOTES.sub("", text)


def tree_of(root: nodes.Node) -> tuple[tree.Tree, dict[str, Any]]:
    """The schema of a type, and the class behind each name in it.

    Parameters
    ----------
    root : Node
        Checked by `graph.check`: all names in it resolve.

    Raises
    ------
    TypeError
        A name is not allowed in a schema: it has a character outside ``A-Z a-z 0-9 _``, or more than 128.
    """
    names = definitions_of(root)
    definitions = tuple(_definition(cls, name, names) for cls, name in names.items())
    classes = {name: cls for cls, name in names.items()}
    for cls in names:
        if isinstance(cls, RecordType):
            for variant in record_spec(cls).variants.values():
                classes.setdefault(wire_name(variant), variant)
    return tree.Tree(type_of(root, names), definitions), classes


def definitions_of(root: nodes.Node) -> dict[Any, str]:
    """The classes that a walk from the root meets, in that order, with their names in the schema."""
    names: dict[Any, str] = {}
    taken: set[str] = set()
    todo = [*_classes(root)][::-1]
    while todo:
        cls = todo.pop()
        if cls in names:
            continue
        name = own = wire_name(cls)
        number = 2
        while name in taken:
            name = f"{own}_{number}"
            number += 1
        names[cls] = checked(name, cls.__qualname__)
        taken.add(name)
        todo += [inner for node in _parts(cls) for inner in _classes(node)][::-1]
    return names


def checked(name: str, where: str) -> str:
    """Return the name; `TypeError` if it is not allowed in a schema."""
    if _NAME.fullmatch(name) is None or (name.startswith("__") and name.endswith("__")):
        raise TypeError(
            f"{where}: {name!r} is no name for a schema: it must be [A-Za-z_][A-Za-z0-9_]*, up to 128"
        )
    return name


def _classes(node: nodes.Node) -> Iterator[Any]:
    # The classes that a node refers to, from left to right.
    match node:
        case nodes.StructNode(cls) | nodes.SealedNode(cls) | nodes.UnionNode(cls, _) | nodes.EnumNode(cls):
            yield cls
        case _:
            for child in nodes.children(node):
                yield from _classes(child)


def _parts(cls: Any) -> Iterator[nodes.Node]:
    # The nodes of the fields of a class; for a sealed class, of the fields of all its variants.
    if isinstance(cls, RecordType):
        spec = record_spec(cls)
        for inner in spec.variants.values() if spec.sealed else (cls,):
            for _, node in record_spec(inner).nodes():
                yield node


def type_of(node: nodes.Node, names: Mapping[Any, str]) -> tree.Type:
    """The schema type of a plan node."""
    match node:
        case nodes.NumberNode(kind):
            return tree.Scalar(kind.name)
        case nodes.LeafNode(name):
            return tree.Scalar(name)
        case nodes.StructNode(cls) | nodes.SealedNode(cls) | nodes.UnionNode(cls, _) | nodes.EnumNode(cls):
            return tree.Ref(names[cls])
        case nodes.StructuredNode(cls):
            return tree.List(tree.Ref(names[cls]))
        case nodes.ShapedNode(item, _):
            return type_of(item, names)
        case nodes.OptionNode(item):
            return tree.Option(type_of(item, names))
        case nodes.ListNode(item) | nodes.TupleNode(item):
            return _list(type_of(item, names))
        case nodes.ArrayNode(kind) | nodes.NdArrayNode(kind):
            return _list(tree.Scalar(kind.name))
        case nodes.FixedNode(item, count):
            return tree.Fixed(type_of(item, names), count)
        case nodes.ProductNode(items):
            return tree.Product(tuple(type_of(item, names) for item in items))


def _list(item: tree.Type) -> tree.Type:
    return tree.Scalar("bytes") if item == tree.Scalar("u8") else tree.List(item)


def _definition(cls: Any, name: str, names: Mapping[Any, str]) -> tree.Definition:
    if not isinstance(cls, RecordType):
        return tree.Enum(name, tuple(checked(member, cls.__qualname__) for member in member_names(cls)))
    spec = record_spec(cls)
    if not spec.sealed:
        return tree.Struct(name, _fields(spec, names), notes_of(spec))
    variants = []
    for inner in spec.variants.values():
        own = record_spec(inner)
        variants.append(tree.Variant(wire_name(inner), _fields(own, names), notes_of(own)))
    return tree.Sealed(name, tuple(variants), notes_of(spec))


def _fields(spec: Spec, names: Mapping[Any, str]) -> tuple[tree.Field, ...]:
    where = spec.cls.__qualname__
    return tuple(
        tree.Field(
            checked(field.wire_name, f"{where}.{field.name}"),
            type_of(node, names),
            field.notes or _meaning(node, spec),
        )
        for field, (_, node) in zip(spec.fields, spec.nodes(), strict=True)
    )


def _meaning(node: nodes.Node, spec: Spec) -> tuple[tree.Note, ...]:
    # What the values of a field mean, beyond their type: also those in options and lists.
    while isinstance(node, (nodes.OptionNode, nodes.ListNode, nodes.TupleNode, nodes.FixedNode)):
        node = node.item
    match node:
        case nodes.NumberNode(_, True):
            return (tree.Note("nanoseconds"),)
        case nodes.ShapedNode(_, dims):
            wire_names: dict[str | int, str] = {field.name: field.wire_name for field in spec.fields}
            return (tree.Note("shape", tuple(wire_names.get(dim, str(dim)) for dim in dims)),)
        case _:
            return ()


def wire_name(cls: Any) -> str:
    return checked(getattr(cls, WIRE_NAME, None) or cls.__name__, cls.__qualname__)


def member_names(cls: Any) -> tuple[str, ...]:
    """The names of an enum's members on the wire, without aliases."""
    return getattr(cls, WIRE_NAMES, None) or tuple(member.name for member in cls)


def notes_of(spec: Spec) -> tuple[tree.Note, ...]:
    """The notes about delivery of a class. A variant has only those that it declares itself."""
    if spec.notes is not None:  # of a class made from a text: all notes of the text
        return spec.notes
    if spec.variant_of is not None and not spec.delivery_said:
        return ()
    found: Delivery = spec.delivery
    notes = [] if found.policy is None else [tree.Note(found.policy, found.key or ())]
    if found.retain:
        notes.append(tree.Note("retain"))
    if found.max_age is not None:
        notes.append(tree.Note("max_age", (f"{found.max_age:.15g}",)))
    return tuple(notes)
