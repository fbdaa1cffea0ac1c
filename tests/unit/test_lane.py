"""Lanes: the class by which a value is delivered, and its key."""

from __future__ import annotations

import ctypes
import enum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deli_com import Codec, EncodeError, codec, f32, i8, i64, u8, u16, u32, u64
from deli_com.fanout.lane import Lane, Lanes, lanes_for

RELIABLE, SKIP, LATEST = range(3)


class Side(enum.Enum):
    BUY = "b"
    SELL = "s"


class Loud(enum.IntEnum):
    """Members that are numbers too."""

    ZERO = 0
    ONE = 1


class Symbol(Codec, frozen=True):
    name: str
    venue: u8 | None = None

    def __post_init__(self) -> None:
        Symbol.made += 1

    made = 0

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a key compares bytes, not values")

    __hash__ = Codec.__hash__


class Plain(Codec):
    id: u32


class Pose(Codec, policy="latest", key="id", retain=True):
    id: u32
    x: f32 = 0.0


class Event(Codec, sealed=True):
    source: u16


class Text(Event):
    text: str


class Video(Event, policy="latest", key=("camera", "source")):
    camera: str


class Sound(Event, policy="skip"):
    pass


class Order(Event, policy="wait"):
    pass


class State(Event, policy="latest", retain=True):
    pass


class Calm(Codec, sealed=True):
    pass


class Word(Calm):
    pass


class Every(Codec, policy="latest", key="number"):
    """A key of each kind; which field is the key is decided by `keyed`."""

    number: u32
    signed: i8
    large: u64
    flag: bool
    text: str
    data: bytes
    side: Side
    loud: Loud
    symbol: Symbol
    pair: tuple[u8, Side]
    many: tuple[u16, ...]
    maybe: u32 | None
    maybe_side: Side | None
    maybe_symbol: Symbol | None


NAMES = list(Every.__dataclass_fields__)
GOOD: dict[str, Any] = dict(
    number=1,
    signed=-1,
    large=2**64 - 1,
    flag=True,
    text="é",
    data=b"\0",
    side=Side.SELL,
    loud=Loud.ONE,
    symbol=Symbol("a", 1),
    pair=(1, Side.BUY),
    many=(1, 2),
    maybe=None,
    maybe_side=None,
    maybe_symbol=None,
)
KEYED: dict[str, Any] = {}
for _name in NAMES:
    KEYED[_name] = type(Codec)(
        f"By_{_name}", (Every,), {"__module__": __name__, "__qualname__": "By"}, key=_name
    )


def lanes(cls: Any, default: str = "disconnect") -> Lanes:
    found = lanes_for(codec(cls), default)
    assert found is not None
    return found


def lane(cls: Any) -> Lane:
    return lanes(cls).lanes[0]


def key_by(name: str, value: Any) -> Any:
    """The key of a message whose key field is `name` and holds `value`."""
    return lane(KEYED[name]).key_of(KEYED[name](**{**GOOD, name: value}))


def wire_of(name: str, value: Any) -> bytes:
    """The bytes of the field itself."""
    annotation: Any = {item.name: item for item in Every.__dataclass_fields__.values()}[name].type
    return codec(eval(annotation)).to_bytes(value)


class Number:
    """An int by its `__index__` alone, which may do something first."""

    def __init__(self, value: int, first: Any = None) -> None:
        self.value = value
        self.first = first

    def __index__(self) -> int:
        if self.first is not None:
            self.first()
        return self.value


class TestLanes:
    @pytest.mark.parametrize("cls", [Plain, Calm, u32, bytes, list[u32], Plain | None])
    def test_plain_delivery_has_no_lanes(self, cls: Any) -> None:
        assert lanes_for(codec(cls), "disconnect") is None

    @pytest.mark.parametrize(
        ("default", "kind", "waits"),
        [("wait", RELIABLE, True), ("skip", SKIP, False), ("latest", LATEST, False)],
    )
    @pytest.mark.parametrize("cls", [Plain, u32, bytes, list[u32]])
    def test_what_names_no_policy_has_one_lane_as_the_server_says(
        self, cls: Any, default: str, kind: int, waits: bool
    ) -> None:
        found = lanes(cls, default)
        (only,) = found.lanes
        assert (only.index, only.kind, only.waits, only.retain, only.key) == (0, kind, waits, False, ())
        assert only.type == cls
        assert only.key_of(object()) is None
        assert found.of(object()) is only

    def test_a_struct_has_one(self) -> None:
        found = lanes(Pose)
        (only,) = found.lanes
        assert (only.type, only.kind, only.waits, only.retain, only.key) == (
            Pose,
            LATEST,
            False,
            True,
            ("id",),
        )
        assert found.of(Pose(1)) is only

    def test_a_sealed_type_has_one_a_variant(self) -> None:
        found = lanes(Event)
        assert [item.type for item in found.lanes] == [Text, Video, Sound, Order, State]
        assert [item.index for item in found.lanes] == [0, 1, 2, 3, 4]
        assert [item.kind for item in found.lanes] == [RELIABLE, LATEST, SKIP, RELIABLE, LATEST]
        assert [item.waits for item in found.lanes] == [False, False, False, True, False]
        assert [item.retain for item in found.lanes] == [False, False, False, False, True]
        assert [item.key for item in found.lanes] == [(), ("camera", "source"), (), (), ()]

    def test_the_default_is_for_variants_that_name_none(self) -> None:
        assert [item.kind for item in lanes(Event, "skip").lanes] == [SKIP, LATEST, SKIP, RELIABLE, LATEST]

    @pytest.mark.parametrize(
        "value",
        [Text(1, "a"), Video(1, "a"), Sound(1), Order(1), State(1)],
        ids=lambda value: type(value).__name__,
    )
    def test_a_value_is_of_the_lane_of_its_class(self, value: Any) -> None:
        assert lanes(Event).of(value).type is type(value)

    @pytest.mark.parametrize("value", [None, 3, Plain(1), Event])
    def test_a_value_of_a_wrong_class_gets_the_first(self, value: Any) -> None:
        assert lanes(Event).of(value).index == 0

    def test_many_variants_are_told_apart(self) -> None:
        """More than a few share places of a hash table."""
        many: Any = type(Codec)("Many", (Codec,), {"__module__": __name__}, sealed=True, policy="skip")
        variants = [type(Codec)(f"V{n}", (many,), {"__module__": __name__}) for n in range(300)]
        found = lanes(many)
        assert [found.of(cls()).type for cls in variants] == variants

    @pytest.mark.parametrize("default", ["", "newest", "Latest"])
    def test_an_unknown_default_is_refused(self, default: str) -> None:
        with pytest.raises(ValueError, match="disconnect, wait, skip, latest"):
            lanes_for(codec(Plain), default)

    def test_they_cannot_be_made_by_hand(self) -> None:
        for cls in (Lane, Lanes):
            with pytest.raises(TypeError, match="lanes_for"):
                cls()

    def test_they_name_their_class(self) -> None:
        assert [repr(item) for item in lanes(Event).lanes][:2] == ["<Lane 0 of Text>", "<Lane 1 of Video>"]


class TestKeys:
    @pytest.mark.parametrize(
        ("name", "value", "key"),
        [
            ("number", 0, 0),
            ("number", 2**32 - 1, 2**32 - 1),
            ("number", np.uint32(7), 7),
            ("number", Number(7), 7),
            ("number", Loud.ONE, 1),
            ("signed", -128, -128),
            ("signed", 127, 127),
            ("large", 2**64 - 1, 2**64 - 1),
            ("flag", False, False),
            ("flag", np.bool_(True), True),
            ("text", "abc", "abc"),
            ("text", "é😀", "é😀"),
            ("text", type("Text", (str,), {})("abc"), "abc"),
            ("text", np.str_("é"), "é"),
            ("data", b"\0\1", b"\0\1"),
            ("data", bytearray(b"\0\1"), b"\0\1"),
            ("data", memoryview(b"\0\1"), b"\0\1"),
            ("data", type("Data", (bytes,), {})(b"\0\1"), b"\0\1"),
            ("side", Side.BUY, 0),
            ("side", Side.SELL, 1),
            ("loud", Loud.ONE, 1),
            ("symbol", Symbol("a", 2), bytes.fromhex("01000000610102")),
            ("pair", (3, Side.SELL), bytes.fromhex("0301000000")),
            ("many", (3,), bytes.fromhex("010000000300")),
            ("maybe", None, None),
            ("maybe", 3, 3),
            ("maybe", Number(3), 3),
            ("maybe_side", None, None),
            ("maybe_side", Side.BUY, 0),
            ("maybe_symbol", None, None),
            ("maybe_symbol", Symbol("", None), bytes.fromhex("0000000000")),
        ],
    )
    def test_one_field_has_one_canonical_form(self, name: str, value: Any, key: Any) -> None:
        got = key_by(name, value)
        assert (got, type(got)) == (key, type(key))
        assert hash(got) == hash(key)

    def test_several_fields_make_a_tuple_in_the_order_of_the_key(self) -> None:
        assert lanes(Event).lanes[1].key_of(Video(7, "front")) == ("front", 7)

    def test_without_a_key_there_is_one_slot(self) -> None:
        assert lanes(Event).lanes[4].key_of(State(7)) is None

    def test_the_usual_value_is_the_key_itself(self) -> None:
        """No copy is made where the field's value can stand for itself."""
        for name, value in {"number": 10**6, "text": "é" * 100, "data": bytes(100)}.items():
            assert key_by(name, value) is value

    def test_no_code_of_the_user_runs_for_a_frozen_struct(self) -> None:
        before = Symbol.made
        value = Symbol("a", 1)
        keys = {key_by("symbol", value): 1}
        assert keys[key_by("symbol", Symbol("a", 1))] == 1
        assert Symbol.made == before + 2

    def test_a_subclass_has_its_own_offsets(self) -> None:
        """The slots of a class are sorted by name within each class of the hierarchy."""
        base: Any = type(Codec)(
            "Base", (Codec,), {"__module__": __name__, "__annotations__": {"z": u8, "a": u8}}, policy="latest"
        )
        made: Any = type(Codec)(
            "Made",
            (base,),
            {"__module__": __name__, "__annotations__": {"m": u8, "b": u8}},
            key=("b", "z", "m", "a"),
        )
        assert lane(made).key_of(made(z=1, a=2, m=3, b=4)) == (4, 1, 3, 2)

    def test_a_mix_in_with_a_dict_changes_nothing(self) -> None:
        class Mix:
            pass

        made: Any = type(Codec)(
            "Mixed",
            (Mix, Codec),
            {"__module__": __name__, "__annotations__": {"a": u8, "b": str}},
            policy="latest",
            key=("b", "a"),
        )
        value = made(3, "x")
        value.more = 5
        assert lane(made).key_of(value) == ("x", 3)

    def test_python_code_of_the_value_may_replace_the_field(self) -> None:
        """The value in hand is held while its `__index__` runs."""
        value = Pose(1)
        value.id = Number(7, first=lambda: setattr(value, "id", 8))  # type: ignore[assignment]
        assert lane(Pose).key_of(value) == 7
        assert lane(Pose).key_of(value) == 8

    @given(st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), VALUES[name], VALUES[name])))
    def test_keys_are_equal_exactly_if_the_bytes_are(self, case: tuple[str, Any, Any]) -> None:
        name, first, second = case
        same = wire_of(name, first) == wire_of(name, second)
        assert (key_by(name, first) == key_by(name, second)) is same


def ints(low: int, high: int) -> st.SearchStrategy[Any]:
    exact = st.integers(low, high) | st.sampled_from([low, high, 0, 1])
    return exact | exact.map(Number) | st.sampled_from([Loud.ZERO, Loud.ONE])


texts = st.text("aé\0😀", max_size=2)
symbols = st.builds(Symbol, texts, st.none() | st.integers(0, 2))
VALUES: dict[str, st.SearchStrategy[Any]] = dict(
    number=ints(0, 2**32 - 1),
    signed=ints(-(2**7), 2**7 - 1),
    large=ints(0, 2**64 - 1),
    flag=st.booleans() | st.booleans().map(np.bool_),
    text=texts | texts.map(np.str_),
    data=st.binary(max_size=2) | st.binary(max_size=2).map(bytearray),
    side=st.sampled_from(Side),
    loud=st.sampled_from(Loud),
    symbol=symbols,
    pair=st.tuples(ints(0, 3), st.sampled_from(Side)),
    many=st.lists(ints(0, 3), max_size=2).map(tuple),
    maybe=st.none() | ints(0, 3),
    maybe_side=st.none() | st.sampled_from(Side),
    maybe_symbol=st.none() | symbols,
)


class TestBadValues:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("number", -1),
            ("number", 2**32),
            ("number", True),
            ("number", "1"),
            ("number", 1.0),
            ("number", None),
            ("signed", 128),
            ("signed", -129),
            ("large", 2**64),
            ("flag", 1),
            ("text", b"a"),
            ("text", "\ud800"),
            ("data", "a"),
            ("side", "b"),
            ("side", Loud.ONE),
            ("symbol", "a"),
            ("symbol", Symbol(3)),  # type: ignore[arg-type]
            ("pair", [1, Side.BUY]),
            ("pair", (1, 2)),
            ("many", [1]),
            ("maybe", -1),
            ("maybe_side", 0),
            ("maybe_symbol", ()),
        ],
    )
    def test_the_error_is_the_one_of_encoding(self, name: str, value: Any) -> None:
        message = KEYED[name](**{**GOOD, name: value})
        with pytest.raises(EncodeError) as key_error:
            lane(KEYED[name]).key_of(message)
        with pytest.raises(EncodeError) as error:
            message.to_bytes()
        assert (str(key_error.value), key_error.value.path) == (str(error.value), error.value.path)

    def test_the_path_in_a_sealed_type_is_the_one_of_encoding(self) -> None:
        with pytest.raises(EncodeError, match=r"Event\.source: 70000 does not fit u16") as key_error:
            lanes(Event).lanes[1].key_of(Video(70000, "a"))
        with pytest.raises(EncodeError) as error:
            codec(Event).to_bytes(Video(70000, "a"))
        assert str(key_error.value) == str(error.value)

    def test_a_field_that_is_not_set(self) -> None:
        value = Pose(1)
        del value.id
        with pytest.raises(EncodeError, match=r"Pose\.id: is not set"):
            lane(Pose).key_of(value)

    @pytest.mark.parametrize("value", [None, 3, Plain(1), b"x" * 100])
    def test_a_value_of_a_wrong_class(self, value: Any) -> None:
        """Its memory is not looked at as if it had the slots."""
        with pytest.raises(EncodeError, match="expected Pose, got"):
            lane(Pose).key_of(value)

    def test_a_value_of_another_variant(self) -> None:
        with pytest.raises(TypeError, match="expected Video, got Sound"):
            lanes(Event).lanes[1].key_of(Sound(1))

    def test_what_its_code_raises_comes_through(self) -> None:
        def fail() -> None:
            raise LookupError("from __index__")

        with pytest.raises(EncodeError, match=r"Pose\.id: LookupError while the value was read") as caught:
            lane(Pose).key_of(Pose(Number(1, first=fail)))  # type: ignore[arg-type]
        assert isinstance(caught.value.__cause__, LookupError)


class TestKeysByHand:
    """`key_from`: the key as a user of `forget` writes it."""

    @pytest.mark.parametrize("name", NAMES)
    def test_one_field_is_its_value(self, name: str) -> None:
        assert lane(KEYED[name]).key_from(GOOD[name]) == key_by(name, GOOD[name])

    def test_several_are_a_tuple(self) -> None:
        video = lanes(Event).lanes[1]
        assert video.key_from(("front", np.uint16(7))) == video.key_of(Video(7, "front"))

    @pytest.mark.parametrize("key", ["front", ("front",), ("front", 7, 8), ["front", 7], None])
    def test_another_number_of_values_is_refused(self, key: Any) -> None:
        with pytest.raises(TypeError, match=r"is a tuple \(camera, source\), got"):
            lanes(Event).lanes[1].key_from(key)

    @pytest.mark.parametrize("key", [None, ()])
    def test_none_stands_for_the_one_slot(self, key: Any) -> None:
        assert lanes(Event).lanes[4].key_from(key) is None

    @pytest.mark.parametrize("key", [0, "a", (1,)])
    def test_the_one_slot_has_no_other_name(self, key: Any) -> None:
        with pytest.raises(TypeError, match="is None, got"):
            lanes(Event).lanes[4].key_from(key)

    def test_a_value_that_does_not_fit(self) -> None:
        with pytest.raises(EncodeError, match=r"Pose\.id: -1 does not fit u32"):
            lane(Pose).key_from(-1)


class TestReferences:
    def test_keys_own_what_they_hold(self) -> None:
        """Neither a key nor a failure leaves a reference behind, or takes one too many."""
        video, text = lanes(Event).lanes[1], "front" * 3
        count = ctypes.c_ssize_t.from_address(id(text))
        before = count.value
        for _ in range(100):
            key = video.key_of(Video(7, text))
            assert key[0] is text
            del key
            with pytest.raises(EncodeError):
                video.key_of(Video(70000, text))
        assert count.value == before

    def test_lanes_outlive_what_they_were_made_of(self) -> None:
        made: Any = type(Codec)(
            "Short",
            (Codec,),
            {"__module__": __name__, "__annotations__": {"id": Side}},
            policy="latest",
            key="id",
        )
        found = lanes(made)
        value = made(Side.SELL)
        del made
        assert found.of(value).key_of(value) == 1


class Signed(Codec, policy="latest", key=("a", "b")):
    a: i64
    b: i8


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**7), 2**7 - 1))
def test_a_key_of_numbers_is_the_numbers(a: int, b: int) -> None:
    assert lane(Signed).key_of(Signed(a, b)) == (a, b)
