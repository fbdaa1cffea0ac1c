"""Annotations to plan nodes. All errors about a user's types are raised here.

`parse` converts one annotation to a node of nodes.py, or raises a `TypeError` that lists the valid types. It
does not compile anything, and does not freeze a class: an annotation that names a class has no effect on it.
A name that is not defined yet raises `NameError`, and the caller tries again at the first compilation.
"""

from __future__ import annotations

import datetime
import enum
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, MutableMapping
from typing import Annotated, Any, ForwardRef, Literal, get_args, get_origin

import typing_extensions

from deli_com.types import nodes
from deli_com.types.instance import RecordType, record_spec
from deli_com.types.kinds import _BOOL, _I64, _U64, Array, FixedArray, Kind
from deli_com.types.kinds import KINDS as _KINDS
from deli_com.types.nanoseconds import Nanoseconds
from deli_com.types.scope import Scope
from deli_com.types.shape import MAX_DIMENSIONS, MAX_LENGTH, Shape

__all__ = ["CHOICES", "Later", "parse", "parse_text"]

CHOICES = (
    "u8 u16 u32 u64 i8 i16 i32 i64 f32 f64, bool, str, bytes, list[T], tuple[T, ...], tuple[A, B], "
    "Array[f32], FixedArray[f32, Literal[3]], NDArray[np.float32], Annotated[NDArray[np.void], Struct], "
    'Annotated[NDArray[np.uint8], Shape("height", "width", 3)], Nanoseconds, '
    "a Codec class, an enum.Enum class, T | None"
)
MAX_FIXED = 2**24  # most items of a FixedArray; the sizes of nested ones must stay far below 2^63

_LEAVES: dict[Any, nodes.Node] = {
    bool: nodes.LeafNode("bool"),
    str: nodes.LeafNode("str"),
    bytes: nodes.LeafNode("bytes"),
    Nanoseconds: nodes.NumberNode(_U64, True),
}
_ALIASES: tuple[Any, ...] = tuple(
    {typing_extensions.TypeAliasType, getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType)}
)
_NO_MAPS = "the wire has no maps: write a list of pairs, list[tuple[{}, {}]]"
_HINTS = {
    int: "int has no size: choose one of u8 u16 u32 u64 i8 i16 i32 i64",
    float: "float has no size: choose f32 or f64",
    bytearray: "bytearray: write bytes (any bytes-like value is accepted)",
    memoryview: "memoryview: write bytes, or Array[...] for numbers",
    list: "list: add the type of its items, list[T]",
    tuple: "tuple: add the types of its items, tuple[T, ...] or tuple[A, B]",
    Array: "Array: add the type of its items, for example Array[f32]",
    FixedArray: "FixedArray: add the type and number of its items, for example FixedArray[f64, Literal[36]]",
    datetime.datetime: "datetime: write Nanoseconds, which Nanoseconds.from_datetime makes",
    dict: _NO_MAPS.format("K", "V"),
    Mapping: _NO_MAPS.format("K", "V"),
    MutableMapping: _NO_MAPS.format("K", "V"),
}


class Later:
    """An annotation of a class made at run time. It may name classes that are not made yet.

    Attributes
    ----------
    build : callable
        Returns the annotation; raises `NameError` while that is not possible.
    """

    __slots__ = ("build",)

    def __init__(self, build: Callable[[], Any]) -> None:
        self.build = build


def refuse(what: str) -> TypeError:
    """The error for an annotation that cannot be encoded."""
    return TypeError(f"{what} (choices: {CHOICES})")


def parse_text(text: str, names: Mapping[str, Any] | None) -> Any:
    """Evaluate a postponed annotation; `NameError` if a name in it is not defined (yet)."""
    evaluate = getattr(names, "evaluate", None)
    if evaluate is None:
        raise refuse(f"{text!r} is a string: pass the type itself")
    return evaluate(text)


def parse(
    annotation: Any, names: Mapping[str, Any] | None = None, _aliases: tuple[Any, ...] = ()
) -> nodes.Node:
    """Find the plan node of one annotation.

    Parameters
    ----------
    annotation : object
        A type, an alias, or a string that names one.
    names : Scope, optional
        Where strings are evaluated; without it, strings are refused.

    Returns
    -------
    Node
        A node of nodes.py.

    Raises
    ------
    TypeError
        The type cannot be encoded. The error lists the valid types.
    NameError
        A name in a string is not defined (yet).
    """

    def inner(item: Any) -> nodes.Node:
        return parse(item, names, _aliases)

    if isinstance(annotation, str):
        return inner(parse_text(annotation, names))
    if isinstance(annotation, ForwardRef):
        return inner(parse_text(annotation.__forward_arg__, names))
    if isinstance(annotation, Later):
        return inner(annotation.build())
    if isinstance(annotation, typing.NewType):
        return inner(annotation.__supertype__)
    alias = annotation if isinstance(annotation, _ALIASES) else get_origin(annotation)
    if isinstance(alias, _ALIASES):
        if alias in _aliases:
            raise refuse(f"the alias {alias.__name__} contains itself: use a Codec class for recursion")
        # Names in a quoted alias are looked up in the module of the alias.
        where = Scope({}, None, getattr(alias, "__module__", None) or "")
        return parse(_alias_value(annotation, alias), where, (*_aliases, alias))
    return _plain_node(annotation) or _generic_node(annotation, names, _aliases, inner)


def _plain_node(annotation: Any) -> nodes.Node | None:
    # The node of an annotation without arguments: a leaf, a class, an enum.
    try:
        leaf = _LEAVES.get(annotation)
        hint = _HINTS.get(annotation)
    except TypeError:  # unhashable, so it is none of these
        leaf = hint = None
    if leaf is not None:
        return leaf
    if hint is not None:
        raise refuse(hint)
    if isinstance(annotation, RecordType):
        return _class_node(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _enum_node(annotation)
    return None


def _generic_node(
    annotation: Any, names: Mapping[str, Any] | None, aliases: tuple[Any, ...], inner: Any
) -> nodes.Node:
    # The node of an annotation with arguments. `inner` converts each argument.
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated_node(args[0], args[1:], inner)
    if origin in (list, tuple, Array, FixedArray) and not args and annotation != tuple[()]:
        raise refuse(_HINTS[origin])  # typing.List and the like, without arguments
    if origin in (dict, Mapping, MutableMapping) and len(args) == 2:
        raise refuse(_NO_MAPS.format(*map(describe, args)))
    if origin is list:
        return nodes.ListNode(inner(args[0]))
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return nodes.TupleNode(inner(args[0]))
        return nodes.ProductNode(tuple(inner(item) for item in args))
    if origin is typing.Union or origin is types.UnionType:
        return _union_node(tuple(_union_members(args, names)), inner)
    if origin is Array:
        return nodes.ArrayNode(_number(args[0], names, aliases, "Array"))
    if origin is FixedArray:
        return _fixed_node(args, inner)
    numpy = sys.modules.get("numpy")
    if numpy is not None and (origin is numpy.ndarray or annotation is numpy.ndarray):
        return _ndarray_node(args, numpy)
    raise refuse(f"{describe(annotation)} has no wire form")


def describe(annotation: Any) -> str:
    """A short text of an annotation, as its author would write it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__qualname__
    text = str(annotation).replace("typing.", "").replace(f"{FixedArray.__module__}.", "")
    return re.sub(r"Annotated\[(?:int|float), (\w+)\]", r"\1", text)


def _alias_value(annotation: Any, alias: Any) -> Any:
    # The value of `type X = ...`. For `X[args]` its parameters are replaced.
    value, args = alias.__value__, get_args(annotation)
    if not args or annotation is alias:
        if alias.__type_params__:
            raise refuse(f"the alias {alias.__name__} needs its parameters")
        return value
    given = dict(zip(alias.__type_params__, args, strict=False))
    wanted = getattr(value, "__parameters__", ())
    return value[tuple(given[parameter] for parameter in wanted)] if wanted else value


def _class_node(cls: Any) -> nodes.Node:
    spec = record_spec(cls)
    if spec is None:
        raise refuse("Codec itself is no type of a value: name a subclass")
    if spec.sealed:
        return nodes.SealedNode(cls)
    if cls.__abstractmethods__:
        raise refuse(f"{cls.__qualname__} is abstract, so it has no values")
    if spec.variant_of is not None:
        raise refuse(
            f"{cls.__qualname__} is a variant: write its sealed class {spec.variant_of.__qualname__}"
        )
    return nodes.StructNode(cls)


def _enum_node(cls: type[enum.Enum]) -> nodes.Node:
    if issubclass(cls, enum.Flag):
        raise refuse(
            f"{cls.__qualname__} is a Flag, but the wire holds the index of one member: use a number type"
        )
    if not len(cls):
        raise refuse(f"the enum {cls.__qualname__} has no members")
    return nodes.EnumNode(cls)


def _annotated_node(base: Any, marks: tuple[Any, ...], inner: Any) -> nodes.Node:
    # Marks that mean nothing here are for others.
    if base is int or base is float:
        for mark in marks:
            if isinstance(mark, Kind):
                return nodes.NumberNode(mark)
    if base is Nanoseconds:
        return _nanoseconds_node(marks)
    numpy = sys.modules.get("numpy")
    if numpy is not None and _is_void_array(base, numpy):
        node = _structured_node(marks)
    else:
        node = inner(base)
    for mark in marks:
        if isinstance(mark, Shape):
            node = _with_shape(node, mark)
    return node


def _nanoseconds_node(marks: tuple[Any, ...]) -> nodes.Node:
    for mark in marks:
        kinds = [kind for kind in (mark, *get_args(mark)[1:]) if isinstance(kind, Kind)]
        if kinds and kinds[0] not in (_U64, _I64):
            raise refuse(f"Annotated[Nanoseconds, {kinds[0]}]: they are u64 or i64")
        if kinds:
            return nodes.NumberNode(kinds[0], True)
    return nodes.NumberNode(_U64, True)


def _structured_node(marks: tuple[Any, ...]) -> nodes.Node:
    for mark in marks:
        if isinstance(mark, RecordType):
            node = _class_node(mark)
            if isinstance(node, nodes.StructNode):
                return nodes.StructuredNode(mark)
            raise refuse(f"{mark.__qualname__} is sealed, and a structured array needs fields of fixed width")
    raise refuse("NDArray[np.void] needs the struct of its items: Annotated[NDArray[np.void], Struct]")


def _with_shape(node: nodes.Node, shape: Shape) -> nodes.Node:
    if isinstance(node, nodes.OptionNode):
        return nodes.OptionNode(_with_shape(node.item, shape))
    if isinstance(node, (nodes.NdArrayNode, nodes.StructuredNode)):
        return nodes.ShapedNode(node, shape.dimensions)
    if isinstance(node, nodes.ShapedNode):
        raise refuse(f"{shape!r} besides another shape")
    raise refuse(f"{shape!r} is that of a numpy array: Annotated[NDArray[np.uint8], {shape!r}]")


def _is_void_array(annotation: Any, numpy: Any) -> bool:
    alias = get_origin(annotation)
    if isinstance(alias, _ALIASES):
        annotation = _alias_value(annotation, alias)
    if get_origin(annotation) is not numpy.ndarray:
        return False
    args = get_args(annotation)
    return len(args) == 2 and get_args(args[1]) == (numpy.void,)


def _ndarray_node(args: tuple[Any, ...], numpy: Any) -> nodes.Node:
    scalars = get_args(args[1]) if len(args) == 2 else ()
    scalar = scalars[0] if scalars else None
    if isinstance(scalar, type) and issubclass(scalar, numpy.void):
        raise refuse("NDArray[np.void] needs the struct of its items: Annotated[NDArray[np.void], Struct]")
    kind = _kind_of(scalar, numpy)
    if kind is None:
        name = "NDArray" if scalar is None else f"NDArray[{describe(scalar)}]"
        raise refuse(
            f"{name} has no wire form: "
            "items are np.uint8 to np.uint64, np.int8 to np.int64, np.float32, np.float64, np.bool_"
        )
    node = nodes.NdArrayNode(kind)
    dims = _literal_shape(args[0], scalar)
    return node if dims is None else nodes.ShapedNode(node, dims)


def _kind_of(scalar: Any, numpy: Any) -> Kind | None:
    if scalar is numpy.bool_:
        return _BOOL
    if not isinstance(scalar, type) or not issubclass(scalar, (numpy.integer, numpy.floating)):
        return None
    try:
        found = numpy.dtype(scalar)
    except TypeError:  # an abstract one, as np.integer
        return None
    return next((kind for kind in _KINDS if found == numpy.dtype(kind.numpy)), None)


def _literal_shape(shape: Any, scalar: Any) -> tuple[int, ...] | None:
    # What ``np.ndarray[tuple[Literal[480], Literal[3]], ...]`` says; None: one dimension, or nothing at all.
    items = get_args(shape)
    if get_origin(shape) is not tuple or (len(items) == 2 and items[1] is Ellipsis):
        return None
    lengths = [get_args(item)[0] if get_origin(item) is Literal else None for item in items]
    if len(items) == 1 and lengths[0] is None:
        return None
    known = tuple(length for length in lengths if type(length) is int and 0 <= length <= MAX_LENGTH)
    if len(known) == len(items) and 1 <= len(known) <= MAX_DIMENSIONS:
        return known
    raise refuse(
        f"{describe(shape)} says how many dimensions an array has, and not their lengths: write "
        f'Annotated[NDArray[np.{scalar.__name__}], Shape("height", "width", 3)], '
        "with names of integer fields of the same struct, and numbers"
    )


def _union_members(args: tuple[Any, ...], names: Mapping[str, Any] | None) -> typing.Iterator[Any]:
    # The members of a union. Names are evaluated, and nested unions are flattened.
    for arg in args:
        if isinstance(arg, str):
            arg = parse_text(arg, names)
        elif isinstance(arg, ForwardRef):
            arg = parse_text(arg.__forward_arg__, names)
        alias = arg if isinstance(arg, _ALIASES) else get_origin(arg)
        value = _alias_value(arg, alias) if isinstance(alias, _ALIASES) else arg
        if get_origin(value) is typing.Union or get_origin(value) is types.UnionType:
            yield from _union_members(get_args(value), names)
        else:
            yield arg


def _union_node(args: tuple[Any, ...], inner: Any) -> nodes.Node:
    rest = tuple(arg for arg in args if arg is not type(None))
    if len(rest) == 1:
        return _option(inner(rest[0])) if len(args) > 1 else typing.cast("nodes.Node", inner(rest[0]))
    bases = {_sealed_base(arg) for arg in rest}
    base = bases.pop()
    if bases or base is None:
        written = " | ".join(describe(arg) for arg in args)
        raise refuse(f"the union {written} has no wire form: make the choices variants of one sealed class")
    union = nodes.UnionNode(base, rest)
    return _option(union) if len(rest) < len(args) else union


def _option(item: nodes.Node) -> nodes.Node:
    if isinstance(item, nodes.OptionNode):  # T | None, where T is an alias of U | None
        return item
    return nodes.OptionNode(item)


def _sealed_base(arg: Any) -> Any:
    if not isinstance(arg, RecordType):
        return None
    spec = record_spec(arg)
    return None if spec is None else spec.variant_of


def _number(annotation: Any, names: Any, aliases: tuple[Any, ...], owner: str) -> Kind:
    node = parse(annotation, names, aliases)
    if isinstance(node, nodes.NumberNode):
        return node.kind
    raise refuse(f"{owner}[{describe(annotation)}]: items are numbers, u8 to f64")


def _fixed_node(args: tuple[Any, ...], inner: Any) -> nodes.Node:
    item, count = args
    if get_origin(count) is Literal:
        values = get_args(count)
        count = values[0] if len(values) == 1 else None
    if type(count) is not int or not 0 <= count <= MAX_FIXED:
        raise refuse(
            f"FixedArray: its length is Literal[n] with n from 0 to {MAX_FIXED}, got {describe(args[1])}"
        )
    return nodes.FixedNode(inner(item), count)
