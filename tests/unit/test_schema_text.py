"""`Schema`: the text of a type, its hash, and what a parser of such texts refuses."""

from __future__ import annotations

import copy
import enum
import hashlib
import pickle
import subprocess
import sys
import typing
from typing import Annotated, Any, Literal, NewType

import numpy as np
import pytest
import typing_extensions
from numpy.typing import NDArray
from random_schemas import GOLDEN

from deli_com import (
    Array,
    Codec,
    FixedArray,
    Schema,
    SchemaMismatch,
    codec,
    errors,
    f32,
    f64,
    u8,
    u16,
    u32,
    u64,
)
from deli_com.schema import parse, tree
from deli_com.schema.measure import recursive, too_deep
from deli_com.schema.text import render


class Side(enum.Enum):
    BUY = "b"
    SELL = "s"
    LONG = "b"  # noqa: PIE796 - an alias: the same member


class Point(Codec):
    x: f32
    y: f32 = 0.0


class Message(Codec, sealed=True):
    pass


class Alarm(Message):
    code: u32


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str
    at: Point
    trace: list[f32]
    side: Side | None


class Node(Codec):
    value: u8
    kids: list[Node]
    next: Node | None


Identity = NewType("Identity", u32)
Same = NewType("Same", Identity)
T = typing.TypeVar("T")
pairs = typing_extensions.TypeAliasType("pairs", list[tuple[T, Point]], type_params=(T,))  # type: ignore[valid-type]
type_alias = typing_extensions.TypeAliasType("type_alias", list[Point])


def lines(tp: Any) -> list[str]:
    return codec(tp).schema.text.splitlines()[1:]


class TestText:
    def test_golden_text_and_hash(self) -> None:
        schema = codec(Message).schema
        assert schema.text == GOLDEN == str(schema)
        assert schema.hash == "625ec7b3256b865c2f1c8a71dc03790d"

    def test_the_hash_is_that_of_the_text_without_notes(self) -> None:
        bare = GOLDEN.replace(" @latest(robot) @retain", "")
        assert Schema.parse(GOLDEN).hash == hashlib.sha256(bare.encode()).hexdigest()[:32]
        assert Schema.parse(bare) == codec(Message).schema
        assert Schema.parse(bare).text == bare

    @pytest.mark.parametrize(
        ("tp", "root"),
        [
            (u8, "u8"),
            (bytes, "bytes"),
            (list[u8], "bytes"),
            (tuple[u8, ...], "bytes"),
            (Array[u8], "bytes"),
            (NDArray[np.uint8], "bytes"),
            (list[bytes], "[bytes]"),
            (list[list[u8]], "[bytes]"),
            (FixedArray[u8, 3], "[u8;3]"),
            (FixedArray[list[f32], Literal[2]], "[[f32];2]"),
            (Array[f32], "[f32]"),
            (NDArray[np.float32], "[f32]"),
            (list[str | None], "[str?]"),
            (tuple[u8, str, f64], "(u8,str,f64)"),
            (tuple[tuple[u8], bool], "((u8),bool)"),
            (Identity, "u32"),
            (list[Identity], "[u32]"),
            (Same | None, "u32?"),
            (Annotated[u16, "what"], "u16"),
            (tuple[()], "()"),
        ],
    )
    def test_types_without_definitions(self, tp: Any, root: str) -> None:
        assert lines(tp) == [f"root {root}"]
        assert Schema.parse(codec(tp).schema.text).tree == codec(tp).schema.tree

    def test_aliases_and_defaults_leave_no_trace(self) -> None:
        assert lines(type_alias) == lines(list[Point]) == ["root [Point]", "struct Point", " x f32", " y f32"]

    def test_each_instance_of_a_generic_alias_is_what_stands_for_it(self) -> None:
        rest = ["struct Point", " x f32", " y f32"]
        assert lines(pairs[u8]) == ["root [(u8,Point)]", *rest]  # type: ignore[misc]
        assert lines(pairs[list[Same]]) == ["root [([u32],Point)]", *rest]  # type: ignore[misc]
        assert codec(pairs[u8]).schema == codec(list[tuple[u8, Point]]).schema  # type: ignore[misc]

    def test_the_hash_is_made_when_it_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither a class nor its codec has one; nothing of it is made at the definition."""
        made: list[bytes] = []
        real = hashlib.sha256

        def seen(data: bytes) -> Any:
            made.append(data)
            return real(data)

        monkeypatch.setattr(hashlib, "sha256", seen)

        class Fresh(Codec):
            x: u8

        own = codec(Fresh)
        assert own.from_bytes(own.to_bytes(Fresh(1))) == Fresh(1)
        assert own.schema.text and made == []
        assert own.schema.hash == own.schema.hash
        assert made == [b"deli 1\nroot Fresh\nstruct Fresh\n x u8\n"]

    def test_a_structured_array_is_a_list_of_its_struct(self) -> None:
        class Row(Codec):
            side: Side
            at: FixedArray[Point, 2]

        assert codec(Annotated[NDArray[np.void], Row]).schema == codec(list[Row]).schema
        assert lines(list[Row]) == [
            "root [Row]", "struct Row", " side Side", " at [Point;2]",
            "enum Side", " 0 BUY", " 1 SELL", "struct Point", " x f32", " y f32",
        ]  # fmt: skip

    def test_recursion(self) -> None:
        assert lines(Node) == ["root Node", "struct Node", " value u8", " kids [Node]", " next Node?"]

    def test_a_written_union_is_its_sealed_class(self) -> None:
        assert codec(Alarm | Pose).schema == codec(Message).schema

    def test_definitions_stand_in_the_order_of_a_depth_first_walk(self) -> None:
        class Deep(Codec):
            x: u8

        class Left(Codec):
            deep: Deep

        class Right(Codec):
            deep: Deep

        class Top(Codec):
            left: Left
            right: list[Right]
            again: Left

        names = [definition.name for definition in codec(Top).schema.tree.definitions]
        assert names == ["Top", "Left", "Deep", "Right"]

    def test_the_second_class_of_a_name_gets_the_next_free(self) -> None:
        def point(name: str, **fields: Any) -> Any:
            return type(Codec)(name, (Codec,), {"__annotations__": fields, "__module__": __name__})

        first, second, third = point("P", a=u8), point("P", b=u8), point("P", c=u8)
        taken, last = point("P_2", d=u8), point("P_3", e=u8)
        top = point("Top", a=first, b=taken, c=second, d=last, e=third)
        types = {field.name: str(field.type) for field in codec(top).schema.tree.definitions[0].fields}
        assert types == {"a": "P", "b": "P_2", "c": "P_3", "d": "P_3_2", "e": "P_4"}

    def test_fields_of_a_sealed_base_stand_in_each_variant(self) -> None:
        class Base(Codec, sealed=True):
            stamp: u64

        class A(Base):
            x: u8

        class B(Base):
            pass

        assert lines(Base) == [
            "root Base", "sealed Base", " 0 A", "  stamp u64", "  x u8", " 1 B", "  stamp u64",
        ]  # fmt: skip

    def test_delivery_is_a_note_where_the_class_says_it(self) -> None:
        class Base(Codec, sealed=True, policy="latest", key=()):
            id: u8

        class Same(Base):
            pass

        class Other(Base, key=("id", "zone")):
            zone: u8

        class Skipped(Base, policy="skip"):
            pass

        class Waits(Codec, policy="wait"):
            pass

        assert [line for line in lines(Base) if not line.startswith("  ")][1:] == [
            "sealed Base @latest", " 0 Same", " 1 Other @latest(id,zone)", " 2 Skipped @skip",
        ]  # fmt: skip
        assert lines(Waits) == ["root Waits", "struct Waits @wait"]

    def test_a_struct_that_inherits_its_delivery_says_it(self) -> None:
        """The base class is not in the text, and who relays needs to know."""

        class Base(Codec, policy="latest", key="id"):
            id: u8

        class Child(Base):
            x: u8

        assert lines(Child)[1] == "struct Child @latest(id)"

    def test_names_that_no_text_can_hold(self) -> None:
        class Größe(Codec):
            x: u8

        class Fine(Codec):
            größe: u8

        with pytest.raises(TypeError, match="Größe"):
            _ = codec(Größe).schema
        with pytest.raises(TypeError, match="größe"):
            _ = codec(Fine).schema

    @pytest.mark.parametrize("place", ["class", "field", "member"])
    def test_names_of_128_characters_and_of_129(self, place: str) -> None:
        def schema(name: str) -> Schema:
            if place == "member":
                return codec(enum.Enum("E", [(name, 0)], module=__name__)).schema
            made: Any = type(Codec)(
                name if place == "class" else "C",
                (Codec,),
                {"__module__": __name__, "__annotations__": {name if place == "field" else "x": u8}},
            )
            return codec(made).schema

        assert Schema.parse(schema("n" * 128).text).hash == schema("n" * 128).hash
        with pytest.raises(TypeError, match="is no name for a schema"):
            schema("n" * 129)


class TestSchema:
    def test_equality_and_repr(self) -> None:
        schema = codec(Message).schema
        assert schema is codec(Message).schema
        assert schema == Schema.parse(GOLDEN) and hash(schema) == hash(Schema.parse(GOLDEN))
        assert schema != codec(Point).schema
        assert schema != GOLDEN
        assert repr(schema) == "<Schema Message 625ec7b3256b865c2f1c8a71dc03790d>"

    def test_names_are_in_the_hash(self) -> None:
        text = "deli 1\nroot P\nstruct P\n lat f32\n lon f32\n"
        swapped = text.replace("lat", "x").replace("lon", "lat").replace("x", "lon")
        assert Schema.parse(text) != Schema.parse(swapped)

    def test_copies_and_pickles(self) -> None:
        schema = codec(Message).schema
        for other in (copy.copy(schema), copy.deepcopy(schema), pickle.loads(pickle.dumps(schema))):
            assert other == schema and other.text == schema.text

    def test_it_is_made_by_parse_or_codec_only(self) -> None:
        with pytest.raises(TypeError, match="parse"):
            Schema()

    def test_types_of_a_codec_are_its_own(self) -> None:
        assert codec(Message).schema.types == {
            "Message": Message, "Point": Point, "Side": Side, "Alarm": Alarm, "Pose": Pose,
        }  # fmt: skip
        assert codec(Message).schema.load() is Message

    def test_nothing_of_it_is_imported_before_it_is_asked_for(self) -> None:
        program = (
            "import sys, deli_com\n"
            "class A(deli_com.Codec):\n x: deli_com.u8\n"
            "A(1).to_bytes()\n"
            "late = {f'deli_com.schema.{name}' for name in ('parse', 'text', 'load', 'resolve', 'tree')}\n"
            "print(late & set(sys.modules))"
        )
        assert (
            subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
            == "set()\n"
        )

    def test_the_error_prints_all_differences(self) -> None:
        error = SchemaMismatch("Telemetry", ["celsius  f32 here, f64 there", "- battery  u8, only here"])
        assert str(error) == (
            "another Telemetry is sent here:\n  celsius  f32 here, f64 there\n- battery  u8, only here"
        )
        assert isinstance(error, errors.ComError) and isinstance(error, ValueError)
        again = pickle.loads(pickle.dumps(error))
        assert again.differences == error.differences and str(again) == str(error)


class TestTree:
    def test_what_generators_walk(self) -> None:
        found = Schema.parse(GOLDEN).tree
        assert found.root == tree.Ref("Message")
        message, point, side = found.definitions
        assert (
            isinstance(message, tree.Sealed)
            and isinstance(point, tree.Struct)
            and isinstance(side, tree.Enum)
        )
        pose = message.variants[1]
        assert pose.notes == (tree.Note("latest", ("robot",)), tree.Note("retain"))
        assert [str(field) for field in pose.fields] == ["robot str", "at Point", "trace [f32]", "side Side?"]
        assert pose.fields[2].type == tree.List(tree.Scalar("f32"))
        assert found.by_name["Side"] is side and side.members == ("BUY", "SELL")
        assert tree.find_note(pose.notes, "retain") == tree.Note("retain")
        with pytest.raises(AttributeError):
            point.name = "other"  # type: ignore[misc]

    def test_a_tree_renders_to_what_was_parsed(self) -> None:
        text = (
            "deli 1\nroot ([A;3],E?)\nstruct A @skip @what(1,-2.5e3,x)\n x u8 @max_age(0.2)\n"
            " s S @shape(height,width,3)\nsealed S @latest\n 0 V @retain\n"
            "  y [bytes]? @nanoseconds\n 1 W\nenum E\n 0 M\n"
        )
        assert render(Schema.parse(text).tree) == text

    def test_what_is_recursive_and_too_deep(self) -> None:
        node = codec(Node).schema.tree
        assert recursive(node) == {"Node"} and too_deep(node) is None
        golden = Schema.parse(GOLDEN).tree
        assert recursive(golden) == set() and too_deep(golden) is None
        for brackets, deep in ((9, False), (10, True)):
            text = f"deli 1\nroot A\nstruct A\n x {'[' * brackets}A{']' * brackets}\n"
            assert (too_deep(Schema.parse(text).tree) is not None) is deep
            if deep:
                with pytest.raises(ValueError, match="2048 deep"):
                    Schema.parse(text).load()


HEAD = "deli 1\nroot A\n"
STRUCT = HEAD + "struct A\n"

REFUSED = {
    "empty": "",
    "no line feed": "deli 1",
    "no root": "deli 1\n",
    "another version": "deli 2\nroot u8\n",
    "carriage returns": "deli 1\r\nroot u8\r\n",
    "no end of line": "deli 1\nroot u8",
    "an empty line": "deli 1\nroot u8\n\n",
    "a space at the end": "deli 1\nroot u8 \n",
    "two spaces": "deli 1\nroot  u8\n",
    "a tab": "deli 1\nroot\tu8\n",
    "no type": "deli 1\nroot \n",
    "not ASCII": "deli 1\nroot A\nstruct A\n größe u8\n",
    "a surrogate": "deli 1\nroot A\nstruct A\n \ud800 u8\n",
    "undefined": HEAD,
    "undefined inside": STRUCT + " x B\n",
    "defined twice": STRUCT + " x u8\nstruct A\n x u8\n",
    "not referred to": STRUCT + "struct B\n",
    "out of order": STRUCT + " x B\n y C\nstruct C\nstruct B\n",
    "not depth first": STRUCT + " x B\n y C\nstruct B\n z D\nstruct C\nstruct D\n",
    "a scalar as a name": "deli 1\nroot [u8;1]\nstruct u8\n",
    "dunder class": "deli 1\nroot __a__\nstruct __a__\n",
    "dunder field": STRUCT + " __init__ u8\n",
    "dunder member": HEAD + "enum A\n 0 __x__\n",
    "a digit first": STRUCT + " 0x u8\n",
    "a long name": STRUCT + f" {'x' * 129} u8\n",
    "a field twice": STRUCT + " x u8\n x u8\n",
    "a field without type": STRUCT + " x\n",
    "a field with a comma": STRUCT + " x,y u8\n",
    "fields too deep": STRUCT + "  x u8\n",
    "sealed without variants": HEAD + "sealed A\n",
    "variants from 1": HEAD + "sealed A\n 1 B\n",
    "a gap": HEAD + "sealed A\n 0 B\n 2 C\n",
    "index with a zero": HEAD + "sealed A\n 00 B\n",
    "a variant twice": HEAD + "sealed A\n 0 B\n 1 B\n",
    "variant without name": HEAD + "sealed A\n 0\n",
    "enum without members": HEAD + "enum A\n",
    "a member twice": HEAD + "enum A\n 0 B\n 1 B\n",
    "notes on an enum": HEAD + "enum A @skip\n 0 B\n",
    "notes on a member": HEAD + "enum A\n 0 B @skip\n",
    "a note without word": HEAD + "struct A @\n",
    "a note with a space": HEAD + "struct A @a(b, c)\n",
    "a note without args": HEAD + "struct A @a()\n",
    "a note that is open": HEAD + "struct A @a(b\n",
    "u8 lists": "deli 1\nroot [u8]\n",
    "option of option": "deli 1\nroot u8??\n",
    "an open list": "deli 1\nroot [u8\n",
    "too many brackets": "deli 1\nroot [f32]]\n",
    "no count": "deli 1\nroot [u8;]\n",
    "a negative count": "deli 1\nroot [u8;-1]\n",
    "a count with a zero": "deli 1\nroot [u8;01]\n",
    "a count over the limit": f"deli 1\nroot [u8;{2**24 + 1}]\n",
    "an enormous count": f"deli 1\nroot [u8;{'9' * 5000}]\n",
    "a product without comma": "deli 1\nroot (u8 u8)\n",
    "a product that ends in a comma": "deli 1\nroot (u8,)\n",
    "other brackets": "deli 1\nroot {u8}\n",
    "endless": STRUCT + " x A\n",
    "endless through another": STRUCT + " x (u8,B)\nstruct B\n y [A;2]\n",
    "endless variants": HEAD + "sealed A\n 0 B\n  x A\n",
    "over 2^40 bytes": f"deli 1\nroot A\nstruct A\n x [[u8;{2**24}];{2**24}]\n",
    "over 2^40 bytes at the root": f"deli 1\nroot [[[u8;{2**24}];{2**24}];{2**24}]\n",
    "201 lists around a type": f"deli 1\nroot {'[' * 201}f32{']' * 201}\n",
    "201 with options inside": f"deli 1\nroot {'[' * 200}f32?{']' * 200}\n",
    "201 with options outside": f"deli 1\nroot {'[' * 200}f32{']' * 200}?\n",
    "10,000 lists": f"deli 1\nroot {'[' * 10000}f32{']' * 10000}\n",
    "10,000 opened": f"deli 1\nroot {'[' * 10000}\n",
    "4,097 definitions": HEAD + "struct A\n" + "".join(f" x{i} S{i}\n" for i in range(4096))
    + "".join(f"struct S{i}\n" for i in range(4096)),
}  # fmt: skip


class TestParse:
    @pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
    def test_what_is_no_schema_is_a_value_error(self, text: str) -> None:
        with pytest.raises(ValueError):
            Schema.parse(text)

    def test_the_limits_themselves_are_allowed(self) -> None:
        many = "struct A\n" + "".join(f" x{i} S{i}\n" for i in range(4095))
        assert (
            len(Schema.parse(HEAD + many + "".join(f"struct S{i}\n" for i in range(4095))).tree.definitions)
            == 4096
        )
        assert Schema.parse(f"deli 1\nroot {'[' * 200}f32{']' * 200}\n").tree.root is not None
        assert Schema.parse(STRUCT + f" {'x' * 128} u8\n").tree.definitions[0].fields
        Schema.parse(f"deli 1\nroot [u8;{2**24}]\n")

    def test_65536_fields_and_one_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No text of 256 KiB has as many: a field takes six bytes."""
        monkeypatch.setattr(parse, "MAX_BYTES", 1 << 20)

        def many(*counts: int) -> str:
            structs = "".join(
                f"struct S{i}\n" + "".join(f" f{n} u8\n" for n in range(count))
                for i, count in enumerate(counts)
            )
            return f"deli 1\nroot ({','.join(f'S{i}' for i in range(len(counts)))})\n{structs}"

        assert len(Schema.parse(many(65_536)).tree.definitions[0].fields) == 65_536
        Schema.parse(many(60_000, 5_536))
        for counts in ((65_537,), (60_000, 5_537)):
            with pytest.raises(ValueError, match="more than 65536 fields"):
                Schema.parse(many(*counts))

    def test_a_chain_of_4096_definitions_is_no_recursion_of_the_parser(self) -> None:
        text = (
            "deli 1\nroot S0\n"
            + "".join(f"struct S{i}\n x S{i + 1}\n" for i in range(4095))
            + "struct S4095\n"
        )
        assert "more than 200" in str(too_deep(Schema.parse(text).tree))

    def test_a_text_over_256_kib_is_refused_by_its_length(self) -> None:
        text = "deli 1\nroot A\nstruct A\n" + "".join(f" x{i} u8\n" for i in range(40000))
        with pytest.raises(ValueError, match="262144"):
            Schema.parse(text)
        shorter = text[: text.rindex("\n", 0, 256 * 1024) + 1]
        assert len(Schema.parse(shorter).tree.definitions[0].fields) > 20000

    def test_an_error_names_the_line(self) -> None:
        with pytest.raises(ValueError, match="line 5"):
            Schema.parse(STRUCT + " x u8\n x u16\n")

    def test_only_text_is_parsed(self) -> None:
        data: typing.Any = GOLDEN.encode()
        with pytest.raises(TypeError):
            Schema.parse(data)

    def test_every_prefix_and_every_changed_byte_of_the_golden_text(self) -> None:
        """A schema that renders to the text that was read, or a ValueError."""
        texts = [GOLDEN[:i] for i in range(len(GOLDEN))]
        for i in range(len(GOLDEN)):
            texts += [GOLDEN[:i] + new + GOLDEN[i + 1 :] for new in " \n[]()?;,@0aA_"]
        read = 0
        for text in texts:
            try:
                found = Schema.parse(text)
            except ValueError:
                continue
            assert render(found.tree) == text
            read += 1
        assert read > 100
