"""`codec`: the compiled codec of any type, made once for each type."""

from __future__ import annotations

from typing import Any, overload

from typing_extensions import TypeForm, TypeVar

from deli_com._fastcodec import TypeCodec
from deli_com.coding.class_methods import class_codec
from deli_com.coding.codec_class import CodecMeta
from deli_com.types import nodes
from deli_com.types.annotations import parse
from deli_com.types.graph import check
from deli_com.types.shape import check_alone

__all__ = ["codec"]

T = TypeVar("T")

_codecs: dict[Any, TypeCodec[Any]] = {}


@overload
def codec(tp: type[T], /) -> TypeCodec[T]: ...
@overload
def codec(tp: TypeForm[T], /) -> TypeCodec[T]: ...
def codec(tp: Any, /) -> TypeCodec[Any]:
    """The compiled codec of a type.

    Parameters
    ----------
    tp : type
        A `Codec` class, or any annotation that a field may have: ``codec(list[u32])``.

    Returns
    -------
    TypeCodec
        The same object for each call with the same type.

    Raises
    ------
    TypeError
        The type cannot be encoded. The error names the field and the valid types.
    """
    try:
        found = _codecs.get(tp)
    except TypeError:  # an annotation without a hash is compiled at each call
        return _make(tp)
    if found is None:
        found = _make(tp)
        if not isinstance(tp, CodecMeta):  # classes keep their codec themselves
            found = _codecs.setdefault(tp, found)
    return found


def _make(tp: Any) -> TypeCodec[Any]:
    node = parse(tp)
    if isinstance(node, nodes.UnionNode):
        check(node)
    if isinstance(node, (nodes.StructNode, nodes.SealedNode, nodes.UnionNode)):
        return class_codec(node.cls)  # checked when it was made
    check_alone(node)
    return TypeCodec(tp, node, check(node))
