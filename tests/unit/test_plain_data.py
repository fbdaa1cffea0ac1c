"""Values as plain data, by the names of the schema."""

from __future__ import annotations

import random
from array import array
from typing import Annotated, Any

import numpy as np
import pytest
import random_schemas
from numpy.typing import NDArray

from deli_com import Array, Codec, Schema, f32, u8
from deli_com.schema.plain_data import plain_data
from deli_com.schema.tree import Enum, Fixed, List, Option, Product, Ref, Scalar, Sealed, Type


def shown(schema: Schema, data: Any, tp: Type) -> str:
    """As `Values.shown` shows the value itself."""
    match tp:
        case Option(item):
            return "null" if data is None else shown(schema, data, item)
        case List(item) | Fixed(item, _):
            assert type(data) is list
            return f"[{','.join(shown(schema, each, item) for each in data)}]"
        case Product(items):
            assert type(data) is list
            parts = (shown(schema, each, item) for each, item in zip(data, items, strict=True))
            return f"[{','.join(parts)}]"
        case Ref(name):
            definition = schema.tree.by_name[name]
            if isinstance(definition, Enum):
                return f"#{data}"
            values, kind, fields = list(data.values()), "", ()
            if isinstance(definition, Sealed):
                kind = values.pop(0)
                fields = next(each for each in definition.variants if each.name == kind).fields
            else:
                fields = definition.fields
            pairs = zip(fields, values, strict=True)
            inner = ",".join(f"{field.name}:{shown(schema, each, field.type)}" for field, each in pairs)
            return f"{kind}{{{inner}}}"
        case Scalar():
            return random_schemas.Values.shown(None, data, tp)  # type: ignore[arg-type]


def test_every_kind_of_value() -> None:
    rng = random.Random(5)
    for schema in random_schemas.schemas(30):
        values = random_schemas.Values(schema)
        for _ in range(5):
            value = values.random(rng)
            assert shown(schema, plain_data(value), schema.tree.root) == values.shown(value)


class Base(Codec, sealed=True):
    pass


class One(Base):
    kind: u8
    kind_: u8


class Row(Codec):
    a: u8
    b: f32


class Arrays(Codec):
    values: Array[f32]
    raw: bytes
    numbers: NDArray[np.float32]
    rows: Annotated[NDArray[np.void], Row]


def test_a_field_called_kind() -> None:
    assert plain_data(One(1, 2)) == {"kind": "One", "kind__": 1, "kind_": 2}


def test_arrays_are_lists() -> None:
    rows = np.zeros(2, [("a", "u1"), ("b", "<f4")])
    value = Arrays(array("f", [1, 2]), b"x", np.array([3], np.float32), rows)
    assert plain_data(Arrays.from_bytes(value.to_bytes())) == {
        "values": [1.0, 2.0],
        "raw": b"x",
        "numbers": [3.0],
        "rows": [{"a": 0, "b": 0.0}, {"a": 0, "b": 0.0}],
    }


@pytest.mark.parametrize("value", [None, True, 5, 1.5, "x", b"y"])
def test_what_is_plain_stays(value: object) -> None:
    assert plain_data(value) is value
