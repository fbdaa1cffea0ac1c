"""Whether the fields of a class can form a key: whether equal values are equal on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deli_com.types import nodes
from deli_com.types.annotations import describe
from deli_com.types.instance import record_spec

if TYPE_CHECKING:
    from deli_com.types.declaration import FieldSpec, Spec

__all__ = ["check_key"]

_KEYS = "keys are u8 to i64, bool, str, bytes, enums, and frozen structs, tuple[A, B] and T | None of such"


def check_key(spec: Spec, *, final: bool) -> None:
    """Raise `TypeError` if a field of the class's key cannot be part of a key.

    Unless `final`, fields whose annotation does not resolve yet are skipped.
    """
    for name in spec.delivery.key or ():
        item = next(item for item in spec.fields if item.name == name)
        why = _refusal_of(item, final, frozenset())
        if why is not None:
            own = spec.cls.__qualname__
            raise TypeError(
                f"{own}.{name}: {describe(item.annotation)} cannot be in the key of {own}: {why} ({_KEYS})"
            )


def _refusal_of(item: FieldSpec, final: bool, above: frozenset[Any]) -> str | None:
    # Why a field cannot be part of a key; None if it can, or if that is not known yet.
    node = item.resolve(final=final)
    return None if node is None else _refusal(node, final, above)


def _refusal(node: nodes.Node, final: bool, above: frozenset[Any]) -> str | None:
    match node:
        case nodes.NumberNode(kind):
            return "nan does not equal itself, and 0.0 equals -0.0" if kind.name in ("f32", "f64") else None
        case nodes.LeafNode() | nodes.EnumNode():
            return None
        case nodes.OptionNode(inner) | nodes.TupleNode(inner):
            return _refusal(inner, final, above)
        case nodes.ProductNode(items):
            found = (_refusal(inner, final, above) for inner in items)
            return next((why for why in found if why is not None), None)
        case nodes.StructNode(cls):
            return _refusal_of_struct(cls, final, above)
        case nodes.SealedNode() | nodes.UnionNode():
            return "it is a sealed type"
        case _:
            return "lists and arrays are mutable"


def _refusal_of_struct(cls: Any, final: bool, above: frozenset[Any]) -> str | None:
    if cls in above:  # recursive: an enclosing call checks it
        return None
    spec = record_spec(cls)
    if not spec.frozen:
        return f"{cls.__qualname__} is mutable, frozen=True would make it a key"
    for item in spec.fields:
        why = _refusal_of(item, final, above | {cls})
        if why is not None:
            return f"{cls.__qualname__}.{item.name} is {describe(item.annotation)}, and {why}"
    return None
