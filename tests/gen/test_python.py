"""Generated Python: the classes have the schema from which they were made."""

from __future__ import annotations

import random
import re
import sys
import types
from typing import Any

import pytest
import vector_types
from random_schemas import FIXED, GOLDEN, Values

from deli_com import Codec, Schema, codec, u8
from deli_com.gen import python
from deli_com.schema.tree import Ref


def loaded(text: str, schema: Schema) -> Any:
    """The root of a generated module."""
    module = types.ModuleType("generated")
    sys.modules["generated"] = module
    try:
        exec(compile(text, "generated.py", "exec"), module.__dict__)
        root = schema.tree.root
        return codec(getattr(module, root.name if isinstance(root, Ref) else "Root"))
    finally:
        del sys.modules["generated"]


def test_the_module_has_the_schema(schemas: list[Schema]) -> None:
    refused: list[str] = []
    rng = random.Random(3)
    for schema in schemas:
        try:
            text = python(schema)
        except ValueError as error:
            refused.append(str(error))
            continue
        made = loaded(text, schema)
        assert made.schema.hash == schema.hash
        values = Values(schema)
        for _ in range(5):
            data = values.codec.to_bytes(values.random(rng))
            assert made.to_bytes(made.from_bytes(data)) == data
    assert len(refused) <= len(schemas) * 3 // 4
    assert all(
        re.search("not allowed in a Python module|not allowed as the name|another class", text)
        for text in refused
    )


@pytest.mark.parametrize("text", FIXED[:4])
def test_notes_of_delivery_come_along(text: str) -> None:
    schema = Schema.parse(text)
    assert loaded(python(schema), schema).schema.text == text


def test_a_name_that_python_cannot_take_is_refused() -> None:
    with pytest.raises(ValueError, match=r"A\.class: the name 'class' is not allowed"):
        python(Schema.parse("deli 1\nroot A\nstruct A\n class u8\n"))


def test_the_text_is_as_a_person_would_write_it() -> None:
    text = python(Schema.parse(GOLDEN))
    assert 'class Pose(Message, policy="latest", key=("robot",), retain=True):\n    robot: str\n' in text
    assert "from deli_com import Codec, f32, u32\n" in text


def test_docstrings_stand_as_a_formatter_leaves_them() -> None:
    text = python(codec(Told).schema)
    assert 'class Told(Codec, sealed=True):\n    """Höhe über dem Meer."""\n\n\nclass High(Told):\n' in text
    assert '    """Two lines.\n\n    And more.\n    """\n\n    metres: u8\n' in text


def test_both_directions() -> None:
    text = python(codec(vector_types.Drawing).schema, codec(vector_types.Shape).schema)
    assert "UP_SCHEMA_HASH" in text and text.count("class Shape(") == 1


class Told(Codec, sealed=True):
    """Höhe über dem Meer."""


class High(Told):
    at: Place


class Place(Codec):
    """Two lines.

    And more.
    """

    metres: u8
