"""The ``repr`` of structs: like that of a dataclass, with long bytes and lists shortened."""

from __future__ import annotations

import array
import sys
from typing import Any

from deli_com.types.instance import record_spec

__all__ = ["show"]

MAX_BYTES = 32  # bytes objects up to this size are shown in full
MAX_ITEMS = 10

_inside: set[int] = set()  # ids of the values being shown, to detect cycles


def show(value: Any) -> str:
    """The text of one struct value: ``Point(x=1.5, y=-3.0)``."""
    cls: Any = type(value)
    spec = record_spec(cls)
    name = cls.__qualname__
    if id(value) in _inside:
        return f"{name}(...)"
    me = id(value)  # kept, because cleaning up must not allocate memory
    try:
        _inside.add(me)
        parts = (f"{item.name}={_field(value, item.name)}" for item in spec.fields)
        return f"{name}({', '.join(parts)})"
    finally:
        _inside.discard(me)


def _field(value: Any, name: str) -> str:
    try:
        return shorten(getattr(value, name))
    except AttributeError:
        return "<not set>"


def shorten(value: Any) -> str:
    """``repr`` of a field's value. For decoded values it is at most about a line."""
    kind: Any = type(value)
    if kind in (bytes, bytearray) and len(value) > MAX_BYTES:
        return f"{kind(value[:16])!r}... ({len(value)} bytes)"
    if kind is memoryview:
        return f"<memoryview, {value.nbytes} bytes>"
    if kind is list:
        return f"[{_items(value)}]"
    if kind is tuple:
        return f"({_items(value)}{',' if len(value) == 1 else ''})"
    if kind is array.array and len(value) > MAX_ITEMS:
        return f"array({value.typecode!r}, [{_items(value)}])"
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray) and value.size > MAX_ITEMS:
        items = value.dtype if value.dtype.names is None else value.dtype.names
        return f"<ndarray of {items}, shape {value.shape}>"
    return repr(value)


def _items(values: Any) -> str:
    if len(values) <= MAX_ITEMS:
        return ", ".join(map(shorten, values))
    first = ", ".join(shorten(values[i]) for i in range(4))
    return f"{first}, ... ({len(values)} items)"
