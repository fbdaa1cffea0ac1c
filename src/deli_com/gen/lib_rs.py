"""Rust to Python: the items of a ``lib.rs`` that derive ``Codec``, parsed with tree-sitter.

The Rust crates have no schemas of their own. A Python program gets their types this way. Fields without a
name are called ``f0``, ``f1``, as in the Dart code that those crates generate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from deli_com.gen.plan import Plan
from deli_com.gen.python import Python
from deli_com.schema.schema import Schema
from deli_com.schema.text import render
from deli_com.schema.tree import (
    SCALARS,
    Definition,
    Enum,
    Field,
    Fixed,
    List,
    Option,
    Product,
    Ref,
    Scalar,
    Sealed,
    Struct,
    Tree,
    Type,
    Variant,
    refs,
    types_in,
)

__all__ = ["python_of_rust"]

_U8 = Scalar("u8")


def python_of_rust(text: str) -> str:
    """Write Python classes for the types in a Rust file that derive ``Codec``.

    Parameters
    ----------
    text : str
        Rust source with structs, tuple structs and enums, with data or without.

    Returns
    -------
    str
        A module. It has the hash and text of its schema if one type contains all others.

    Raises
    ------
    ValueError
        The text is not Rust, or a type that derives ``Codec`` cannot be translated: it has generics, or a
        field of an unknown type. The error names the line.
    ImportError
        The extra ``deli-com[rust]`` is not installed.
    """
    definitions = {each.name: each for each in _Reader(text).items()}
    if not definitions:
        raise ValueError("no type in it derives Codec")
    for each in definitions.values():
        for name in (name for tp in types_in(each) for name in refs(tp)):
            if name not in definitions:
                raise ValueError(f"{each.name} holds {name}, which does not derive Codec in this file")
    roots = _roots(definitions)
    root: Type = Ref(roots[0]) if len(roots) == 1 else Product(tuple(map(Ref, roots)))
    order = [definitions[name] for name in dict.fromkeys(_walk(roots, definitions))]
    schema = Schema.parse(render(Tree(root, tuple(order))))
    return Python(Plan.of(schema, None)).file(whole=len(roots) == 1)


def _roots(definitions: dict[str, Definition]) -> list[str]:
    # The types that no other type contains, and one of each cycle that nothing else contains.
    reach = {name: set(_walk([name], definitions)) for name in definitions}
    found: list[str] = []
    for name in sorted(definitions, key=lambda name: -len(reach[name])):  # equal ones keep their order
        if not any(name in reach[root] for root in found):
            found.append(name)
    return [name for name in definitions if name in found]


def _walk(roots: list[str], definitions: dict[str, Definition]) -> Iterator[str]:
    # In the order of definitions in schema texts.
    met: set[str] = set()
    todo = roots[::-1]
    while todo:
        name = todo.pop()
        if name not in met:
            met.add(name)
            yield name
            todo += [ref for tp in types_in(definitions[name]) for ref in refs(tp)][::-1]


class _Reader:
    def __init__(self, text: str) -> None:
        try:
            import tree_sitter
            import tree_sitter_rust
        except ImportError as error:
            raise ImportError('reading Rust needs the extra: pip install "deli-com[rust]"') from error
        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
        self.root: Any = parser.parse(text.encode()).root_node
        if self.root.has_error:
            line = next(node.start_point[0] for node in _nodes(self.root) if node.is_error or node.is_missing)
            raise ValueError(f"line {line + 1} is no Rust")

    def items(self) -> Iterator[Definition]:
        """The types that derive ``Codec``, including those in modules."""
        for node in _nodes(self.root):
            if node.type in ("struct_item", "enum_item", "union_item") and _derives(node):
                yield self.item(node)

    def item(self, node: Any) -> Definition:
        name = _text(node.child_by_field_name("name"))
        if node.child_by_field_name("type_parameters") is not None:
            raise self.error(node, f"{name} has generics, which a schema cannot express")
        body = node.child_by_field_name("body")
        if node.type == "struct_item":
            return Struct(name, self.fields(body))
        if node.type != "enum_item":
            raise self.error(node, f"{name} is neither a struct nor an enum")
        variants = [
            Variant(_text(each.child_by_field_name("name")), self.fields(each.child_by_field_name("body")))
            for each in body.named_children
            if each.type == "enum_variant"
        ]
        if not variants:
            raise self.error(node, f"{name} has no variants")
        if any(variant.fields for variant in variants):
            return Sealed(name, tuple(variants))
        return Enum(name, tuple(variant.name for variant in variants))

    def fields(self, body: Any) -> tuple[Field, ...]:
        if body is None:
            return ()
        if body.type == "ordered_field_declaration_list":
            types = body.children_by_field_name("type")
            return tuple(Field(f"f{i}", self.type_of(each)) for i, each in enumerate(types))
        return tuple(
            Field(
                _text(each.child_by_field_name("name")).removeprefix("r#"),
                self.type_of(each.child_by_field_name("type")),
            )
            for each in body.named_children
            if each.type == "field_declaration"
        )

    def type_of(self, node: Any) -> Type:
        match node.type:
            case "primitive_type" | "type_identifier" | "scoped_type_identifier":
                name = _text(node).split("::")[-1]
                if name == "String":
                    return Scalar("str")
                if name in SCALARS and name not in ("str", "bytes"):
                    return Scalar(name)
                if node.type != "primitive_type":
                    return Ref(name)
            case "unit_type":
                return Product(())
            case "tuple_type":
                return Product(tuple(map(self.type_of, node.named_children)))
            case "array_type":
                count = node.child_by_field_name("length")
                found = re.fullmatch(r"([0-9][0-9_]*)(usize)?", "" if count is None else _text(count))
                if found is not None:
                    item = self.type_of(node.child_by_field_name("element"))
                    return Fixed(item, int(found[1].replace("_", "")))
            case "generic_type":
                name = _text(node.child_by_field_name("type")).split("::")[-1]
                arguments = node.child_by_field_name("type_arguments").named_children
                if len(arguments) == 1 and name in ("Vec", "Option", "Box"):
                    item = self.type_of(arguments[0])
                    if name == "Vec":
                        return Scalar("bytes") if item == _U8 else List(item)
                    return Option(item) if name == "Option" else item
        raise self.error(node, f"{_text(node)} is no type that a schema can express")

    @staticmethod
    def error(node: Any, words: str) -> ValueError:
        return ValueError(f"line {node.start_point[0] + 1}: {words}")


def _nodes(root: Any) -> Iterator[Any]:
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        todo += node.children[::-1]


def _text(node: Any) -> str:
    found: str = node.text.decode()
    return found


def _derives(node: Any) -> bool:
    # Whether an item has an attribute ``derive`` with ``Codec``.
    before = node.prev_sibling
    while before is not None and before.type in ("attribute_item", "line_comment", "block_comment"):
        if before.type == "attribute_item":
            words = [_text(each) for each in _nodes(before) if each.type == "identifier"]
            if words[:1] == ["derive"] and "Codec" in words:
                return True
        before = before.prev_sibling
    return False
