"""`Schema.load`: classes made at run time equal those that a program would declare."""

from __future__ import annotations

import array
import copy
import dataclasses
import enum
import inspect
from typing import Any, get_args

import pytest
from helpers import has_gc_header

from deli_com import Codec, EncodeError, Schema, codec, f32, u8, u32
from deli_com.types.delivery import delivery


class Side(enum.Enum):
    BUY = "b"
    SELL = "s"


class Place(Codec, frozen=True):
    zone: u8
    tags: tuple[str, ...]


class Message(Codec, sealed=True, policy="latest", key="id"):
    id: u32


class Alarm(Message, policy="skip"):
    code: u32


class Pose(Message, policy="latest", key=("id", "place"), retain=True):
    place: Place
    trace: list[f32]
    side: Side | None


class Same(Message):
    pass


class Node(Codec):
    value: u8
    kids: list[Node]
    next: Node | None


def loaded(tp: Any) -> Any:
    return Schema.parse(codec(tp).schema.text)


class TestClasses:
    def test_they_are_codec_classes_with_slots(self) -> None:
        schema = Schema.parse("deli 1\nroot P\nstruct P\n x f32\n y f32\n")
        point = schema.load()
        assert schema.load() is point and schema.types == {"P": point}
        value = point(1.5, y=-3.0)
        assert value.to_bytes().hex() == "0000c03f000040c0"
        assert point.from_bytes(value.to_bytes()) == value and repr(value) == "P(x=1.5, y=-3.0)"
        assert copy.copy(value) == value and dataclasses.asdict(value) == {"x": 1.5, "y": -3.0}
        signature = str(inspect.signature(point)).replace("typing.", "")
        assert signature == "(x: Annotated[float, f32], y: Annotated[float, f32])"
        assert not hasattr(value, "__dict__") and not has_gc_header(point)
        with pytest.raises(EncodeError, match=r"P\.x"):
            point("1", 2.0).to_bytes()

    def test_sealed_types_enums_keys_and_policies(self) -> None:
        schema = loaded(Message)
        assert codec(schema.load()).schema.text == codec(Message).schema.text
        types = schema.types
        assert set(types) == {"Message", "Alarm", "Pose", "Same", "Place", "Side"}
        for name in ("Message", "Alarm", "Pose", "Same"):
            ours, theirs = delivery(types[name]), delivery(globals()[name])
            assert (ours.policy, ours.key or (), ours.retain) == (
                theirs.policy,
                theirs.key or (),
                theirs.retain,
            )
        place = types["Place"](1, ("a",))
        assert hash(place) is not None and place.tags == ("a",)
        value = types["Pose"](7, place, [1.0], types["Side"].SELL)
        same = Pose(7, Place(1, ("a",)), [1.0], Side.SELL)
        assert value.to_bytes() == same.to_bytes()
        assert types["Message"].from_bytes(same.to_bytes()) == value
        assert isinstance(types["Same"](1), schema.load())

    def test_recursive_types(self) -> None:
        schema = loaded(Node)
        node = schema.load()
        value = Node(1, [Node(2, [], None)], Node(3, [], None))
        assert node.from_bytes(value.to_bytes()).to_bytes() == value.to_bytes()
        value_type, kids, successor = (field.type for field in dataclasses.fields(node))
        assert str(value_type).endswith("Annotated[int, u8]")
        assert kids == list[node]
        assert set(get_args(successor)) == {node, type(None)}

    def test_a_root_that_is_no_class(self) -> None:
        tp = Schema.parse("deli 1\nroot [(u8,[f32;2],bytes?)]\n").load()
        value = [(1, array.array("f", [1, 2]), b"x"), (2, array.array("f", [3, 4]), None)]
        assert codec(tp).from_bytes(codec(tp).to_bytes(value)) == value

    def test_unknown_notes_are_kept(self) -> None:
        text = (
            "deli 1\nroot P\nstruct P @max_age(0.2) @whatever(1,x)\n x u64 @nanoseconds\n"
            " y bytes @shape(height,width,3)\n"
        )
        assert codec(Schema.parse(text).load()).schema.text == text

    def test_names_that_python_would_not_have(self) -> None:
        text = (
            "deli 1\nroot class\nstruct class\n def u8\n decode u8\n decode_ u8\n __x u8\n None E\n mro u8\n"
            "enum E\n 0 mro\n 1 _x_\n 2 name\n 3 value\n 4 name_\n 5 None\n 6 _E__y\n"
        )
        schema = Schema.parse(text)
        made = schema.load()
        assert codec(made).schema.text == text
        value = made(1, 2, 3, 4, list(schema.types["E"])[6], 5)
        assert (value.decode__, value.decode_, value.x_, value.mro) == (2, 3, 4, 5)
        assert made.from_bytes(value.to_bytes()) == value
        assert [member.name for member in schema.types["E"]][:3] == ["mro_", "x_", "name__"]

    def test_variants_and_structs_of_one_name(self) -> None:
        text = "deli 1\nroot (A,B)\nsealed A\n 0 B\n  x u8\n 1 A\nstruct B\n y u16\n"
        schema = Schema.parse(text)
        assert codec(schema.load()).schema.text == text
        assert [field.name for field in dataclasses.fields(schema.types["B"])] == ["y"]

    @pytest.mark.parametrize(
        "text",
        [
            "deli 1\nroot A\nstruct A @latest(x)\n",
            "deli 1\nroot A\nstruct A @latest(x)\n x f32\n",
            "deli 1\nroot A\nstruct A @latest(x)\n x S\nsealed S\n 0 V\n",
            "deli 1\nroot A\nstruct A @latest(x,x)\n x u8\n",
            "deli 1\nroot A\nstruct A @latest(1)\n x u8\n",
            "deli 1\nroot A\nstruct A @latest @skip\n",
            "deli 1\nroot A\nstruct A @retain\n",
            "deli 1\nroot A\nstruct A @skip @retain\n",
            "deli 1\nroot A\nstruct A @skip(x)\n x u8\n",
            "deli 1\nroot A\nstruct A @latest @retain(x)\n x u8\n",
            "deli 1\nroot A\nsealed A @latest(id)\n 0 V\n",
            "deli 1\nroot A\nsealed A @latest(id)\n 0 V\n  id u8\n 1 W\n",
            "deli 1\nroot S0\n"
            + "".join(f"struct S{i}\n x S{i + 1}\n" for i in range(201))
            + "struct S201\n",
        ],
    )
    def test_what_cannot_be_classes_is_a_value_error(self, text: str) -> None:
        schema = Schema.parse(text)
        with pytest.raises(ValueError):
            schema.load()
