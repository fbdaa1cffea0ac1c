"""`Shape`: the dimensions of an array that travels as ``[T]``, and what a struct must have for them."""

from __future__ import annotations

import keyword
import operator
from typing import TYPE_CHECKING, Any, final

from deli_com.types import nodes

if TYPE_CHECKING:
    from deli_com.types.declaration import Spec

__all__ = ["MAX_DIMENSIONS", "Shape", "check_alone", "check_shapes", "shaped_in"]

MAX_DIMENSIONS = 32  # of an array: every numpy has so many
MAX_LENGTH = 0xFFFFFFFF  # of a dimension: what the wire can count


@final
class Shape:
    """The shape of a numpy array in a field: ``Annotated[NDArray[np.uint8], Shape("height", "width", 3)]``.

    The wire is that of the array without a shape. A name is that of an integer field of the same struct,
    before or behind the array. Its value is checked where it is given, and taken from the array where it is
    None. A decoded array has the shape.

    Parameters
    ----------
    *dimensions : str or int
        1 to 32 names of fields and lengths, the outermost dimension first.

    Raises
    ------
    TypeError, ValueError
        A dimension is neither a name nor a length.

    Examples
    --------
    >>> from typing import Annotated
    >>> import numpy as np
    >>> from numpy.typing import NDArray
    >>> from deli_com import Codec, Shape, field, u32
    >>> class Image(Codec):
    ...     height: u32 = field(default=None, kw_only=True)
    ...     width: u32 = field(default=None, kw_only=True)
    ...     pixels: Annotated[NDArray[np.uint8], Shape("height", "width", 3)]
    >>> image = Image.from_bytes(Image(np.zeros((480, 640, 3), np.uint8)).to_bytes())
    >>> image.height, image.pixels.shape
    (480, (480, 640, 3))
    """

    __slots__ = ("dimensions",)

    dimensions: tuple[str | int, ...]

    def __init__(self, *dimensions: str | int) -> None:
        if not 1 <= len(dimensions) <= MAX_DIMENSIONS:
            raise ValueError(f"Shape: from 1 to {MAX_DIMENSIONS} dimensions, got {len(dimensions)}")
        object.__setattr__(self, "dimensions", tuple(_dimension(item) for item in dimensions))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Shape.{name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Shape.{name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self.dimensions == other.dimensions if isinstance(other, Shape) else NotImplemented

    def __hash__(self) -> int:
        return hash((Shape, self.dimensions))

    def __repr__(self) -> str:
        return f"Shape({', '.join(map(repr, self.dimensions))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Shape, self.dimensions


def _dimension(item: Any) -> str | int:
    if isinstance(item, str):
        if not item.isidentifier() or keyword.iskeyword(item):
            raise ValueError(f"Shape: {item!r} is no name of a field")
        return item
    try:
        length = None if isinstance(item, bool) else operator.index(item)
    except TypeError:
        length = None
    if length is None:
        raise TypeError(f"Shape: a dimension is the name of an integer field or a length, got {item!r}")
    if not 0 <= length <= MAX_LENGTH:
        raise ValueError(f"Shape: a length is from 0 to {MAX_LENGTH}, got {length}")
    return length


def shaped_in(node: nodes.Node) -> nodes.ShapedNode | None:
    """The shaped array that a field holds: itself, or in options and lists; None: there is none."""
    while isinstance(node, (nodes.OptionNode, nodes.ListNode, nodes.TupleNode, nodes.FixedNode)):
        node = node.item
    return node if isinstance(node, nodes.ShapedNode) else None


def check_shapes(spec: Spec) -> None:
    """Whether the struct, whose fields have nodes, has what its arrays' shapes name; `TypeError` if not."""
    for item in spec.fields:
        if item.node is None:
            continue
        found = shaped_in(item.node)
        own = f"{spec.cls.__qualname__}.{item.name}"
        if found is None:
            _refuse_hidden(item.node, own)
            continue
        for name in found.dims:
            if isinstance(name, str):
                _check_name(spec, own, name)


def _check_name(spec: Spec, own: str, name: str) -> None:
    node = next((item.node for item in spec.fields if item.name == name), None)
    if node is None:
        raise TypeError(
            f"{own}: its shape names {name!r}, which is no field of {spec.cls.__qualname__}: "
            "a dimension is an integer field of the same struct"
        )
    if not isinstance(node, nodes.NumberNode) or node.kind.name[0] == "f" or node.nanoseconds:
        raise TypeError(
            f"{own}: its shape names {name!r}, which is no integer field: "
            "write u8 to i64 (a value of None is filled from the array)"
        )


def _refuse_hidden(node: nodes.Node, own: str) -> None:
    # A shape stands in a schema behind the one field that it is of.
    if isinstance(node, nodes.ShapedNode):
        raise TypeError(f"{own}: an array with a shape inside tuple[A, B]: put it into a field of its own")
    for child in nodes.children(node):
        _refuse_hidden(child, own)


def check_alone(node: nodes.Node) -> None:
    """Whether a shape in a type that is no class says all dimensions itself; `TypeError` if not."""
    found = shaped_in(node)
    if found is None:
        _refuse_hidden(node, "the type")
    elif any(isinstance(name, str) for name in found.dims):
        raise TypeError(f"{Shape(*found.dims)!r} names fields, so its array must be a field of a Codec class")
