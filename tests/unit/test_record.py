"""Codec classes are dataclasses: construction, comparison, copies, pickling, collection."""

from __future__ import annotations

import copy
import dataclasses
import gc
import inspect
import pickle
import sys
import types
import weakref
from array import array
from typing import Any

import numpy as np
import pytest
from helpers import has_gc_header
from numpy.typing import NDArray

from deli_com import Array, Codec, WsServer, codec, errors, f32, f64, field, u8, u32
from deli_com.coding import codec_class, registry


class Point(Codec):
    x: f32
    y: f32


class Frozen(Codec, frozen=True):
    name: str
    tags: tuple[str, ...] = ()


class Options(Codec):
    first: u8
    second: u8 = 2
    third: list[u8] = field(default_factory=list)
    fourth: u8 = field(default=4, kw_only=True)
    fifth: u8 = field(kw_only=True)


class Child(Point):
    z: f32 = 0.0


class Node(Codec):
    value: u8
    kids: list[Node]


class Shape(Codec, sealed=True):
    name: str


class Circle(Shape):
    radius: f32


class Arrays(Codec):
    packed: Array[f32]
    numpy: NDArray[np.float64]
    nested: list[Array[u8]]
    maybe: NDArray[np.int8] | None


class Checked(Codec):
    value: u8
    label: str = ""

    def __post_init__(self) -> None:
        if self.value > 100:
            raise OverflowError("too much")
        self.label += "!"


class Mix:
    def double(self) -> Any:
        return self.x * 2  # type: ignore[attr-defined]


class Slotless:
    __slots__ = ()

    def triple(self) -> Any:
        return self.x * 3  # type: ignore[attr-defined]


class Mixed(Mix, Codec):
    x: u8


class MixedToo(Codec, Slotless):
    x: u8


class MixedChild(Mixed):
    y: u8


EVERY = [
    Point(1.0, 2.0),
    Frozen("a", ("b",)),
    Options(1, fifth=5),
    Child(1.0, 2.0, 3.0),
    Node(1, [Node(2, [])]),
    Circle("c", 1.0),
    Checked(1, "x"),
    Mixed(3),
    MixedChild(3, 4),
    MixedToo(3),
]


def name_of(value: Any) -> str:
    return type(value).__name__


class TestConstructor:
    def test_positional_and_keyword(self) -> None:
        for value in (Point(1, 2), Point(1, y=2), Point(x=1, y=2), Point(y=2, x=1), Point(*(1,), y=2)):
            assert (value.x, value.y) == (1, 2)

    def test_names_that_are_not_interned(self) -> None:
        """Keywords are compared by text where identity does not find them."""
        assert Point(**{"".join(["x"]): 1, "".join(["y"]): 2}) == Point(1, 2)
        long = "".join(["fi", "rst"])
        assert Options(**{long: 1, "fifth": 5}).first == 1

    def test_defaults(self) -> None:
        a, b = Options(1, fifth=5), Options(1, fifth=5)
        assert (a.first, a.second, a.third, a.fourth, a.fifth) == (1, 2, [], 4, 5)
        assert a.third is not b.third
        assert Options(1, 3, [7], fourth=6, fifth=5).third == [7]

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda: Point(), "missing 2 required arguments: 'x', 'y'"),
            (lambda: Point(1), "missing 1 required argument: 'y'"),
            (lambda: Point(1, 2, 3), "takes 2 positional arguments but 3 were given"),
            (lambda: Point(1, 2, z=3), "unexpected keyword argument 'z'"),
            (lambda: Point(1, x=2, y=3), "multiple values for argument 'x'"),
            (lambda: Point(1, 2, x=3), "multiple values for argument 'x'"),
            (lambda: Options(1, 2, [], 4, fifth=5), "takes 3 positional arguments but 4 were given"),
            (lambda: Options(1), "missing 1 required argument: 'fifth'"),
            (lambda: Options(fifth=1), "missing 1 required argument: 'first'"),
        ],
    )
    def test_wrong_calls(self, call: Any, words: str) -> None:
        """TypeErrors that say what is wrong; nothing leaks, in a loop."""
        for _ in range(100):
            with pytest.raises(TypeError, match=words):
                call()

    def test_failing_factory(self) -> None:
        def fail() -> Any:
            raise LookupError("factory")

        class Bad(Codec):
            a: u8
            b: u8 = field(default_factory=fail)

        with pytest.raises(LookupError, match="factory"):
            Bad(1)
        assert Bad(1, 2).b == 2

    def test_keyword_only_classes(self) -> None:
        class Only(Codec, kw_only=True):
            a: u8
            b: u8 = 1
            c: u8

        assert Only(c=3, a=1) == Only(a=1, b=1, c=3)
        assert Only.__match_args__ == ()
        with pytest.raises(TypeError, match="takes 0 positional"):
            Only(1)  # type: ignore[misc]

        class Marked(Codec):
            a: u8
            _: dataclasses.KW_ONLY
            b: u8

        assert Marked(1, b=2).to_bytes() == b"\1\2"

    def test_wire_order_is_the_order_of_the_body(self) -> None:
        """Keyword-only fields keep their place on the wire."""

        class Order(Codec):
            zz: u8
            aa: u8 = field(kw_only=True)
            mm: u8

        assert Order(1, 3, aa=2).to_bytes() == b"\1\2\3"

    def test_other_ways_to_construct(self) -> None:
        """type.__call__, __init__ again, object without fields."""
        assert type.__call__(Point, 1, 2) == Point(1, 2)
        point = Point(1, 2)
        point.__init__(3, 4)  # type: ignore[misc]
        assert point == Point(3, 4)
        blank = Point.__new__(Point)
        with pytest.raises(AttributeError):
            blank.x  # noqa: B018
        with pytest.raises(errors.EncodeError, match=r"Point\.x: is not set"):
            blank.to_bytes()
        assert "not set" in repr(blank)

    def test_signature(self) -> None:
        text = str(inspect.signature(Options))
        assert text.startswith("(first: 'u8', second: 'u8' = 2")
        assert text.endswith("*, fourth: 'u8' = 4, fifth: 'u8')")
        assert list(inspect.signature(Point.from_bytes).parameters) == ["data", "strict"]
        assert Point.to_bytes.__doc__ is not None

    def test_post_init(self) -> None:
        """Runs on construction and on decoding, nested too; there its exceptions are a cause."""

        class Outer(Codec):
            inner: list[Checked]

        raw = codec(tuple[u8, str]).to_bytes((7, "a"))
        assert Checked(7, "a").label == "a!"
        assert Checked.from_bytes(raw).label == "a!"
        assert Outer.from_bytes(b"\1\0\0\0" + raw).inner[0].label == "a!"
        with pytest.raises(OverflowError, match="too much"):
            Checked(101)
        for call in (
            lambda: Checked.from_bytes(b"\x65\0\0\0\0"),
            lambda: Outer.from_bytes(b"\1\0\0\0\x65\0\0\0\0"),
        ):
            for _ in range(100):
                with pytest.raises(errors.DecodeError, match=r"OverflowError .*too much"):
                    call()


class TestAttributes:
    def test_assignment(self) -> None:
        point = Point(1, 2)
        point.x = 5
        assert point.to_bytes() == Point(5, 2).to_bytes()
        with pytest.raises(AttributeError):
            point.z = 1  # type: ignore[attr-defined]
        del point.x
        with pytest.raises(errors.EncodeError, match="is not set"):
            point.to_bytes()

    def test_frozen(self) -> None:
        value = Frozen("a")
        for change in (
            lambda: setattr(value, "name", "b"),
            lambda: delattr(value, "name"),
            lambda: setattr(value, "zz", 1),
        ):
            with pytest.raises(dataclasses.FrozenInstanceError):
                change()
        assert value == Frozen("a")

    def test_frozen_with_post_init(self) -> None:
        """object.__setattr__ works there, as in a dataclass."""

        class Sum(Codec, frozen=True):
            a: u8
            total: u8 = 0

            def __post_init__(self) -> None:
                object.__setattr__(self, "total", self.a + 1)

        assert Sum(2).total == Sum.from_bytes(b"\2\0").total == 3

    def test_exactly_the_declared_class(self) -> None:
        """A subclass is refused where its base is declared, instead of being sliced."""

        class Holder(Codec):
            point: Point

        with pytest.raises(errors.EncodeError, match="expected Point, got Child") as caught:
            Holder(Child(1, 2, 3)).to_bytes()
        assert caught.value.path.endswith("Holder.point")
        with pytest.raises(errors.EncodeError):
            codec(Point).to_bytes(Child(1, 2, 3))
        assert Child(1, 2, 3).to_bytes() == Point(1, 2).to_bytes() + codec(f32).to_bytes(3)


class TestComparison:
    def test_equality(self) -> None:
        assert Point(1, 2) == Point(1.0, 2.0)
        assert Point(1, 2) != Point(1, 3)
        assert Point(1, 2) != Child(1, 2, 0)
        assert (Point(1, 2) == (1, 2)) is False
        assert Point(1, 2).__eq__(3) is NotImplemented
        for other in (Point(1, 3), 5):
            with pytest.raises(TypeError):
                Point(1, 2) < other  # type: ignore[operator]  # noqa: B015

    def test_arrays_by_items(self) -> None:
        """Whatever holds the items, and always a bool."""
        xs = [1.0, 2.0]
        one = Arrays(np.array(xs, np.float32), np.array(xs), [b"ab"], np.zeros(2, np.int8))
        two = Arrays(array("f", xs), np.array(xs), [bytearray(b"ab")], np.zeros(2, np.int8))
        assert (one == two) is True
        assert (one != two) is False
        assert Arrays.from_bytes(one.to_bytes()) == one == two
        for change in (
            {"packed": array("f", [1, 3])},
            {"packed": array("f", [1])},
            {"numpy": np.array([1.0, 5.0])},
            {"numpy": np.zeros((2, 2))},
            {"nested": [b"ab", b""]},
            {"nested": [b"ax"]},
            {"maybe": None},
        ):
            assert (dataclasses.replace(one, **change) == two) is False

    def test_values_with_strange_equality(self) -> None:
        """`==` of a field that is no bool becomes one; one that fails, fails."""

        class Odd:
            def __eq__(self, other: object) -> Any:
                return [] if other == 1 else [1]

        assert (Point(Odd(), 1) == Point(2, 1)) is True  # type: ignore[arg-type]
        assert (Point(Odd(), 1) == Point(1, 1)) is False  # type: ignore[arg-type]

        class Fails:
            def __eq__(self, other: object) -> bool:
                raise LookupError

        with pytest.raises(LookupError):
            Point(Fails(), 1) == Point(1, 1)  # type: ignore[arg-type]  # noqa: B015

    def test_hash(self) -> None:
        """Frozen ones have it, by their fields; others not."""
        assert hash(Frozen("a")) == hash(Frozen("a")) != hash(Frozen("b"))
        assert len({Frozen("a"), Frozen("a"), Frozen("b")}) == 2
        for value in (Point(1, 2), Options(1, fifth=1)):
            with pytest.raises(TypeError, match="unhashable"):
                hash(value)

    def test_own_methods_stay(self) -> None:
        """`__eq__`, `__hash__` and `__repr__` of the body are kept."""

        class Own(Codec):
            a: u8

            def __eq__(self, other: object) -> bool:
                return True

            def __hash__(self) -> int:
                return 7

            def __repr__(self) -> str:
                return "mine"

        assert Own(1) == Own(2)
        assert hash(Own(1)) == 7
        assert repr(Own(1)) == "mine"

    def test_match(self) -> None:
        match Child(1, 2, 3):
            case Child(x, y, z=z):
                assert (x, y, z) == (1, 2, 3)
            case _:
                raise AssertionError


class TestRepr:
    def test_as_a_dataclass(self) -> None:
        assert repr(Point(1.5, -3.0)) == "Point(x=1.5, y=-3.0)"
        assert repr(Frozen("a", ("b",))) == "Frozen(name='a', tags=('b',))"

    def test_long_fields_are_shortened(self) -> None:
        class Long(Codec):
            data: bytes
            items: list[u32]
            values: Array[f64]
            numpy: NDArray[np.float64]

        text = repr(Long(b"x" * 10_000, list(range(10_000)), array("d", range(10_000)), np.zeros(10_000)))
        assert len(text) < 400
        assert "10000 bytes" in text
        assert "10000 items" in text

    def test_a_value_within_itself(self) -> None:
        node = Node(1, [])
        node.kids.append(node)
        assert "Node(...)" in repr(node)


class TestDataclassFunctions:
    def test_fields_asdict_replace(self) -> None:
        assert dataclasses.is_dataclass(Point)
        assert [item.name for item in dataclasses.fields(Child)] == ["x", "y", "z"]
        assert dataclasses.asdict(Node(1, [Node(2, [])])) == {"value": 1, "kids": [{"value": 2, "kids": []}]}
        assert dataclasses.astuple(Point(1, 2)) == (1, 2)
        assert dataclasses.replace(Point(1, 2), y=5) == Point(1, 5)
        assert Point(1, 2).__replace__(x=4) == Point(4, 2)
        with pytest.raises(TypeError, match="unexpected"):
            dataclasses.replace(Point(1, 2), q=5)
        if sys.version_info >= (3, 13):
            assert copy.replace(Point(1, 2), y=5) == Point(1, 5)

    @pytest.mark.parametrize("value", EVERY, ids=name_of)
    def test_copies(self, value: Any) -> None:
        """Shallow and deep; __post_init__ is not run again."""
        shallow, deep = copy.copy(value), copy.deepcopy(value)
        assert shallow == deep == value
        assert shallow is not value
        assert type(deep) is type(value)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize("value", EVERY, ids=name_of)
    def test_pickle(self, value: Any, protocol: int) -> None:
        again = pickle.loads(pickle.dumps(value, protocol))
        assert again == value
        assert type(again) is type(value)

    def test_cyclic_values(self) -> None:
        """Deep copies and pickles of a value that holds itself."""
        node = Node(1, [])
        node.kids.append(node)
        for again in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
            assert again.kids[0] is again

    def test_codecs_are_picklable(self) -> None:
        assert pickle.loads(pickle.dumps(codec(list[u8]))) is codec(list[u8])
        assert copy.copy(codec(Point)) is codec(Point)

    def test_wrong_states(self) -> None:
        for state in (None, (), ((1,),), ((1, 2, 3),), ([1, 2],)):
            with pytest.raises(TypeError):
                Point(1, 2).__setstate__(state)  # type: ignore[attr-defined]


class TestMixIns:
    def test_methods_and_attributes(self) -> None:
        """A mix-in without __slots__ brings a __dict__, which copies and pickles keep."""
        value = Mixed(3)
        value.note = "n"  # type: ignore[attr-defined]
        assert value.double() == 6
        assert MixedToo(3).triple() == 9
        for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert again.note == "n"
        assert MixedChild(1, 2).to_bytes() == b"\1\2"
        assert Mixed.from_bytes(b"\3") == Mixed(3)

    def test_they_are_collected(self) -> None:
        value = Mixed(3)
        value.me = value  # type: ignore[attr-defined]
        reference = weakref.ref(value)
        del value
        gc.collect()
        assert reference() is None


class TestCollection:
    def test_header_only_where_a_cycle_is_possible(self) -> None:
        """Recursive classes, and those that hold what may become so, are known to the collector."""

        class Ahead(Codec):
            next: list[Behind]

        class Behind(Codec):
            value: u8

        class HoldsShape(Codec):
            shape: Shape | None

        flat = (Point, Frozen, Options, Child, Circle, Arrays, Checked, MixedToo, Behind)
        assert [cls.__name__ for cls in flat if has_gc_header(cls)] == []
        assert all(has_gc_header(cls) for cls in (Node, Mixed, Ahead, HoldsShape))
        assert not gc.is_tracked(Point(1, 2))
        assert gc.is_tracked(Node(1, []))
        assert gc.is_tracked(Node.from_bytes(b"\1\0\0\0\0"))
        assert gc.is_tracked(copy.copy(Node(1, [])))

    def test_cycles_are_collected(self) -> None:
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(1000):
            node = Node(1, [])
            node.kids.append(node)
        del node
        gc.collect()
        assert len(gc.get_objects()) < before + 500

    def test_classes_are_collected(self) -> None:
        """A class made in a function goes with its last instance."""

        def make() -> Any:
            class Local(Codec):
                a: u8
                others: list[Local] = field(default_factory=lambda: [Local(1)])

            assert Local.from_bytes(Local(1, [Local(2, [])]).to_bytes()).others[0].a == 2
            return weakref.ref(Local)

        references = [make() for _ in range(20)]
        gc.collect()
        assert [reference() for reference in references] == [None] * 20

    def test_finalizers(self) -> None:
        """`__del__` runs once for each value, and may bring it back."""
        seen: list[Any] = []

        class Final(Codec):
            a: u8

            def __del__(self) -> None:
                seen.append(self.a)

        for i in range(200):
            Final(i)
        assert seen == list(range(200))
        kept: list[Any] = []

        class Again(Codec):
            a: u8

            def __del__(self) -> None:
                if not kept:
                    kept.append(self)

        Again(5)
        assert kept[0].a == 5
        assert kept[0].to_bytes() == b"\5"

    def test_long_chains_through_fields_of_any_type(self) -> None:
        """Values may be put where they do not belong, and are still freed without recursion."""
        value: Any = None
        for _ in range(300_000):
            value = Point(value, None)
        del value

    def test_memory_that_held_other_things(self) -> None:
        """A new value has one reference, whatever the memory held before (3.12 keeps marks there)."""
        usual = {sys.getrefcount(value) for value in [object() for _ in range(10)]}
        for fill in (b"\xff", b"\x80", b"\x00"):
            rubbish = [bytearray(fill * Point.__basicsize__) for _ in range(10_000)]
            del rubbish
            for values in (
                [Point(1, 2) for _ in range(5000)],
                [Point.from_bytes(bytes(8)) for _ in range(5000)],
            ):
                assert {sys.getrefcount(value) for value in values} == usual

    def test_isinstance_and_module_attributes(self) -> None:
        assert isinstance(Circle("a", 1), Shape)
        assert Point.__module__ == __name__
        assert isinstance(Point.__dict__["x"], types.MemberDescriptorType)


class TestCodecOfAClass:
    def test_its_graph_is_checked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The check takes time for each class that is reached; each connection asks for its codec."""
        checked: list[Any] = []
        for module in (codec_class, registry):

            def counted(*arguments: Any, check: Any = module.check) -> Any:
                checked.append(arguments)
                return check(*arguments)

            monkeypatch.setattr(module, "check", counted)

        class Path(Codec):
            points: list[Point]

        made = codec(Path)
        assert len(checked) == 1
        assert codec(Path) is made and WsServer[Path] is not None
        assert len(checked) == 1
