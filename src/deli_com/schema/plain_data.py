"""Values as plain data: dicts keyed by the names of the schema, for tools without a class for the type.

::

    reading = codec(Schema.parse(text).load())
    plain_data(reading.from_bytes(data))   # {"kind": "Pose", "robot": "r1", "at": {"x": 1.0, "y": 2.0}}

The class ``Generic`` of ``deli-com gen ts --generic`` makes the same from the same bytes.
"""

from __future__ import annotations

import enum
from array import array
from typing import Any

from deli_com.schema.text import member_names, wire_name
from deli_com.types.instance import RecordType, record_spec

__all__ = ["plain_data"]


def plain_data(value: Any) -> Any:
    """Turn a value into dicts, lists, strings, numbers, bools, bytes and None.

    Parameters
    ----------
    value : Any
        A value that a codec decoded.

    Returns
    -------
    Any
        Structs become dicts keyed by the names on the wire. A variant has ``kind`` before its fields; a field
        named ``kind`` becomes ``kind_``. Members of enums become their names. Tuples and arrays become lists.
    """
    if isinstance(type(value), RecordType):
        spec = record_spec(type(value))
        found: dict[str, Any] = {}
        taken = {field.wire_name for field in spec.fields}
        if spec.variant_of is not None:
            found["kind"] = wire_name(type(value))
        for field in spec.fields:
            name = field.wire_name
            if name in found:
                name += "_"
                while name in taken:
                    name += "_"
            found[name] = plain_data(getattr(value, field.name))
        return found
    if isinstance(value, enum.Enum):
        return member_names(type(value))[list(type(value)).index(value)]
    if isinstance(value, (list, tuple)):
        return [plain_data(each) for each in value]
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, array):
        return value.tolist()
    if hasattr(value, "dtype"):  # a numpy array; numpy need not be installed
        return _rows(value)
    return value


def _rows(value: Any) -> Any:
    # A numeric array, or a structured array or one of its rows.
    names = value.dtype.names
    if names is None:
        return value.tolist()
    if value.shape:
        return [_rows(each) for each in value]
    return {name: _rows(value[name]) for name in names}
