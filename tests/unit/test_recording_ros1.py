"""ROS 1 definitions: the reader of ROS 1 decodes what the codec encoded."""

from __future__ import annotations

import array
import enum
import io
import re
from typing import Any, Literal

import pytest

pytest.importorskip("mcap_ros1", reason="mcap-ros1-support is not installed (dependency group test)")

import reference_codec as reference
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mcap_ros1._vendor.genpy.dynamic import generate_dynamic
from type_strategies import types, values

from deli_com import Array, Codec, FixedArray, Schema, codec, f32, f64, u8, u16, u32
from deli_com.recording.ros1 import ros1_definition


class Side(enum.Enum):
    BUY = 1
    SELL = 2


class Point(Codec):
    x: f32
    y: f32


class Pose(Codec):
    robot: str
    at: Point
    trace: Array[f32]
    grid: list[list[Point]]
    side: Side
    raw: bytes
    blobs: list[bytes]
    pair: tuple[u8, str]
    fixed: FixedArray[f64, Literal[2]]
    _hidden: bool


class Event(Codec, sealed=True):
    stamp: u32


class Moved(Event):
    to: Point


class Lost(Event):
    pass


class Chain(Codec):
    next: Chain | None


class Tree(Codec):
    branches: list[Tree]


class Holder(Codec):
    event: Event


def reader(definition: tuple[str, str]) -> Any:
    """The class that the standard implementation makes of a definition."""
    name, text = definition
    return generate_dynamic(name, text)[name]


def read(definition: tuple[str, str], data: bytes) -> Any:
    message = reader(definition)()
    message.deserialize(data)
    return message


def definition_of(type: Any) -> tuple[str, str]:
    found = ros1_definition(codec(type).schema.tree)
    assert found is not None
    return found


def test_the_text_of_a_struct():
    assert definition_of(Pose) == (
        "deli/Pose",
        "string robot\n"
        "deli/Point at\n"
        "float32[] trace\n"
        "deli/Pose_grid_item[] grid\n"
        "uint32 BUY=0\n"
        "uint32 SELL=1\n"
        "uint32 side\n"
        "uint8[] raw\n"
        "deli/Pose_blobs_item[] blobs\n"
        "deli/Pose_pair pair\n"
        "float64[2] fixed\n"
        "bool f_hidden\n" + "=" * 80 + "\nMSG: deli/Point\nfloat32 x\nfloat32 y\n" + "=" * 80 + "\n"
        "MSG: deli/Pose_grid_item\ndeli/Point[] data\n" + "=" * 80 + "\n"
        "MSG: deli/Pose_blobs_item\nuint8[] data\n" + "=" * 80 + "\n"
        "MSG: deli/Pose_pair\nuint8 item0\nstring item1\n",
    )


def test_a_value_is_read_field_by_field():
    value = Pose(
        "r2",
        Point(1.0, 2.0),
        array.array("f", [3.0]),
        [[Point(4.0, 5.0)], []],
        Side.SELL,
        b"ab",
        [b"", b"c"],
        (7, "seven"),
        [8.0, 9.0],
        True,
    )
    found = read(definition_of(Pose), value.to_bytes())
    assert (found.robot, found.at.x, found.at.y, [*found.trace]) == ("r2", 1.0, 2.0, [3.0])
    assert [[(point.x, point.y) for point in row.data] for row in found.grid] == [[(4.0, 5.0)], []]
    assert (found.side, bytes(found.raw), [bytes(blob.data) for blob in found.blobs]) == (
        1,
        b"ab",
        [b"", b"c"],
    )
    assert (found.pair.item0, found.pair.item1, [*found.fixed], found.f_hidden) == (
        7,
        "seven",
        [8.0, 9.0],
        True,
    )


def test_a_variant_begins_with_its_index():
    tree = codec(Event).schema.tree
    moved, lost = tree.by_name["Event"].variants  # type: ignore[union-attr]
    found = read(ros1_definition(tree, moved), Moved(3, Point(1.0, 2.0)).to_bytes())  # type: ignore[arg-type]
    assert (found.variant, found.stamp, found.to.y) == (0, 3, 2.0)
    found = read(ros1_definition(tree, lost), Lost(4).to_bytes())  # type: ignore[arg-type]
    assert (found.variant, found.stamp) == (1, 4)


@pytest.mark.parametrize(("type", "value"), [(u16, 7), (str, "text"), (bytes, b"\1\2"), (Side, Side.SELL)])
def test_a_root_that_is_no_class_is_one_field(type: Any, value: Any):
    found = read(definition_of(type), codec(type).to_bytes(value)).value
    assert (bytes(found) if isinstance(value, bytes) else found) == (1 if value is Side.SELL else value)


@pytest.mark.parametrize("type", [Chain, Tree, Holder, Event, list[u8 | None]])
def test_what_ros_cannot_express(type: Any):
    assert ros1_definition(codec(type).schema.tree) is None


def test_names_that_would_clash():
    text = (
        "deli 1\nroot A\nstruct A\n _x u8\n f_x u8\n BUY [bytes]\n side E\n other A_BUY_item\n"
        "enum E\n 0 BUY\n 1 SELL\nstruct A_BUY_item\n y u8\n"
    )
    name, lines = ros1_definition(Schema.parse(text).tree)  # type: ignore[misc]
    assert lines.split("=")[0].split("\n") == [
        "uint8 f_x",
        "uint8 f_x_",
        "deli/A_BUY_item_[] BUY",
        "uint32 side",  # no constants: one of them is the name of a field
        "deli/A_BUY_item other",
        "",
    ]
    found = read((name, lines), b"\1\2\1\0\0\0\1\0\0\0z\1\0\0\0\5")
    assert (found.f_x, found.f_x_, bytes(found.BUY[0].data), found.side, found.other.y) == (1, 2, b"z", 1, 5)


def test_names_of_messages_begin_with_a_letter():
    text = (
        "deli 1\nroot _Root\nstruct _Root\n a _Point\n b [_Point;1]\n c M_Point\n d [[_Point]]\n"
        "struct _Point\n x u8\nstruct M_Point\n y u8\n"
    )
    name, lines = ros1_definition(Schema.parse(text).tree)  # type: ignore[misc]
    assert name == "deli/M_Root"
    assert re.findall("MSG: (.*)", lines) == ["deli/M_Point_", "deli/M_Point", "deli/M_Root_d_item"]
    assert lines.split("=")[0].split("\n")[:3] == [
        "deli/M_Point_ a",
        "deli/M_Point_[1] b",
        "deli/M_Point c",
    ]
    found = read((name, lines), b"\1\2\3\1\0\0\0\1\0\0\0\4")
    assert (found.a.x, found.b[0].x, found.c.y, found.d[0].data[0].x) == (1, 2, 3, 4)


def test_the_name_of_a_variant_begins_with_a_letter():
    text = "deli 1\nroot Event\nsealed Event\n 0 _Hidden\n  x u8\n"
    tree = Schema.parse(text).tree
    name, lines = ros1_definition(tree, tree.by_name["Event"].variants[0])  # type: ignore[misc, union-attr]
    assert (name, lines) == ("deli/M_Hidden", "uint32 variant\nuint8 x\n")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_generated_types_are_read_and_written_alike(data: Any):
    shape = data.draw(types)
    definition = ros1_definition(codec(reference.annotation(shape)).schema.tree)
    assume(definition is not None)
    encoded = reference.encode(shape, data.draw(values(shape)))
    message = reader(definition)()  # type: ignore[arg-type]
    message.deserialize(encoded)
    buffer = io.BytesIO()
    message.serialize(buffer)
    assert buffer.getvalue() == encoded
