"""Formats values for the command line: as JSON, and as a line for people."""

from __future__ import annotations

import base64
import enum
import json
import math
from datetime import UTC, datetime
from typing import Any

from deli_com import Codec
from deli_com.types.instance import record_spec

__all__ = ["MAX_SHOWN", "json_line", "plain", "row", "shown", "type_name"]

MAX_SHOWN = 12  # most items of an array that a line for people shows


def plain(value: Any) -> Any:
    """A value in JSON types: objects, arrays, strings, numbers.

    Bytes become base64, members of enums their names. Numbers that JSON lacks (``nan``, ``inf``) become
    strings. Integers are exact.
    """
    if isinstance(value, Codec):
        return {name: plain(getattr(value, name)) for name in names_of(type(value))}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "tolist"):  # numpy arrays, rows and numbers
        names = value.dtype.names
        if names is None:
            return plain(value.tolist())
        if value.ndim:
            return [plain(item) for item in value]
        return {name: plain(value[name]) for name in names}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def names_of(cls: type) -> tuple[str, ...]:
    """Names of the fields of a class, in the order of the wire."""
    spec: Any = record_spec(cls)
    return tuple(field.name for field in spec.fields)


def type_name(value: Any) -> str:
    """The name of a value's type."""
    return type(value).__name__


def json_line(at: int, value: Any) -> str:
    """One line: time in seconds since the epoch, type and value.

    Parameters
    ----------
    at : int
        Nanoseconds since the epoch.
    """
    whole, part = divmod(at, 10**9)
    head = f'{{"time": {whole}.{part:09d}, "type": {json.dumps(type_name(value))}, "value": '
    return head + json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "}"


def shown(at: int, value: Any) -> tuple[str, str, str]:
    """Time of day, type and fields, for people."""
    moment = datetime.fromtimestamp(at // 10**9, UTC).astimezone().strftime("%H:%M:%S")
    return f"{moment}.{at % 10**9 // 10**6:03d}", type_name(value), _text(value, top=True)


def _text(value: Any, top: bool = False) -> str:
    if isinstance(value, Codec):
        fields = " ".join(f"{name}={_text(getattr(value, name))}" for name in names_of(type(value)))
        return fields if top else f"({fields})"
    if isinstance(value, enum.Enum):
        return str(value.name)
    if isinstance(value, bytes | bytearray | memoryview):
        begin = bytes(value[:8]).hex(" ")
        return f"<{len(value)} bytes: {begin}{' …' if len(value) > 8 else ''}>"
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if hasattr(value, "tolist"):
        if getattr(value, "ndim", 0) == 0:
            return _text(value.tolist())
        if value.size > MAX_SHOWN:
            return (
                f"<{value.dtype if value.dtype.names is None else 'rows'} {'x'.join(map(str, value.shape))}>"
            )
        value = value.tolist()
    if isinstance(value, list | tuple):
        items = " ".join(_text(item) for item in value[:MAX_SHOWN])
        return f"[{items}{f' … {len(value)} in all' if len(value) > MAX_SHOWN else ''}]"
    return str(value)


def row(value: Any, prefix: str = "") -> dict[str, Any]:
    """Fields by name, those of inner structs as ``outer.inner``. Other values become JSON."""
    found: dict[str, Any] = {}
    if not isinstance(value, Codec):
        found[prefix or "value"] = _cell(value)
        return found
    for name in names_of(type(value)):
        inner = getattr(value, name)
        key = f"{prefix}.{name}" if prefix else name
        found.update(row(inner, key) if isinstance(inner, Codec) else {key: _cell(inner)})
    return found


def _cell(value: Any) -> Any:
    made = plain(value)
    return json.dumps(made, ensure_ascii=False) if isinstance(made, list | dict) else made
