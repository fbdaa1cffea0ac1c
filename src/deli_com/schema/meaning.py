"""What ``@shape`` and ``@nanoseconds`` behind a field say of its values, as annotations of a loaded class.

A note that does not fit its field is kept in the schema, and means nothing: notes say nothing about bytes.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeAlias

from deli_com.schema.tree import (
    INTEGERS,
    SIZES,
    Definition,
    Enum,
    Field,
    Fixed,
    List,
    Note,
    Option,
    Ref,
    Scalar,
    Struct,
    Type,
    find_note,
)
from deli_com.types import kinds
from deli_com.types.nanoseconds import Nanoseconds
from deli_com.types.shape import MAX_DIMENSIONS, MAX_LENGTH, Shape

__all__ = ["Meaning", "Meanings"]

# The type inside a field's type that a note is about, and what makes its annotation: of a list of structs
# from their class, else from None.
Meaning: TypeAlias = tuple[Type, Callable[[Any], Any]]


class Meanings:
    """The meanings of the fields of one schema.

    Parameters
    ----------
    by_name : mapping of str to Definition
        Those of the schema, which `measure.too_deep` has accepted.
    """

    def __init__(self, by_name: Mapping[str, Definition]) -> None:
        self.by_name = by_name
        self.widths: dict[str, int] = {}

    def of(
        self, field: Field, fields: Mapping[str, Field], attributes: Mapping[str, str], in_key: bool
    ) -> Meaning | None:
        """What a field means; None: nothing that its type does not say.

        Parameters
        ----------
        field : Field
            With its notes.
        fields : mapping of str to Field
            All of its struct.
        attributes : mapping of str to str
            How the class calls them.
        in_key : bool
            It is in a key, where no array can be.
        """
        inner = field.type
        if find_note(field.notes, "nanoseconds") is not None:
            while isinstance(inner, (Option, List, Fixed)):
                inner = inner.item
            if inner in (Scalar("u64"), Scalar("i64")):
                return inner, partial(_nanoseconds, inner)
        note = find_note(field.notes, "shape")
        shape = None if note is None or in_key else _shape_of(note, fields, attributes)
        if shape is None or not _has_numpy():
            return None
        inner = field.type
        while isinstance(inner, (Option, Fixed)) or (isinstance(inner, List) and not self.is_array(inner)):
            inner = inner.item
        return (inner, partial(_shaped, inner, shape)) if self.is_array(inner) else None

    def is_array(self, tp: Type) -> bool:
        """Whether a numpy array can hold it."""
        if not isinstance(tp, List):
            return tp == Scalar("bytes")
        if isinstance(tp.item, Ref):
            return isinstance(self.by_name[tp.item.name], Struct) and self.width(tp.item) > 0
        return isinstance(tp.item, Scalar) and tp.item.name in SIZES

    def width(self, tp: Type) -> int:
        """Bytes of each value; -1: it is no column of a structured array."""
        match tp:
            case Scalar(name):
                return SIZES.get(name, -1)
            case Fixed(item, count):
                width = self.width(item)
                return -1 if width < 0 else count * width
            case Ref(name):
                if name not in self.widths:
                    self.widths[name] = -1  # where it holds itself
                    self.widths[name] = self._width_of(self.by_name[name])
                return self.widths[name]
            case _:
                return -1

    def _width_of(self, definition: Definition) -> int:
        if isinstance(definition, Enum):
            return 4
        if not isinstance(definition, Struct):
            return -1
        widths = [self.width(field.type) for field in definition.fields]
        return -1 if -1 in widths else sum(widths)


def _has_numpy() -> bool:
    return "numpy" in sys.modules or importlib.util.find_spec("numpy") is not None


def _nanoseconds(tp: Type, _: Any) -> Any:
    return Nanoseconds if tp == Scalar("u64") else Annotated[Nanoseconds, kinds.i64]


def _shaped(tp: Type, shape: Shape, item_class: Any) -> Any:
    import numpy
    from numpy.typing import NDArray

    if item_class is not None:
        return Annotated[NDArray[numpy.void], item_class, shape]
    name = "u8" if isinstance(tp, Scalar) else str(tp)[1:-1]
    scalar: Any = numpy.bool_ if name == "bool" else numpy.dtype(f"{name[0]}{SIZES[name]}").type
    return Annotated[NDArray[scalar], shape]


def _shape_of(note: Note, fields: Mapping[str, Field], attributes: Mapping[str, str]) -> Shape | None:
    if not 1 <= len(note.args) <= MAX_DIMENSIONS:
        return None
    found: list[str | int] = []
    for arg in note.args:
        field = fields.get(arg)
        if arg.isdigit() and len(arg) < 11 and int(arg) <= MAX_LENGTH:
            found.append(int(arg))
        elif field is not None and str(field.type) in INTEGERS and not find_note(field.notes, "nanoseconds"):
            found.append(attributes[arg])
        else:
            return None
    try:
        return Shape(*found)
    except ValueError:  # the name of a field is a keyword of Python
        return None
