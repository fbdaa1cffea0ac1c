"""Errors of codecs use the user's terms, and structs can do what dataclasses can."""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import gc
import importlib
import pickle
import sys
import types
import weakref
from typing import Any, ClassVar

import cloudpickle
import joblib
import numpy as np
import pytest
from numpy.typing import NDArray

from deli_com import Array, Codec, DecodeError, EncodeError, FixedArray, InvalidBool, codec, f32, u8, u32


class Small(Codec):
    x: u8

    def __post_init__(self) -> None:
        if self.x > 5:
            raise ValueError(f"{self.x} is over 5")


class Many(Codec):
    name: str
    items: list[Small]


class Real(Codec):
    x: f32


class Holder(Codec):
    reals: list[Real]


class Mask(Codec):
    bits: NDArray[np.bool_]


class TestWhatPostInitRefuses:
    @pytest.mark.parametrize(
        "decode",
        [Many.from_bytes, codec(Many).from_bytes, Many.decode, codec(Many).decode],
        ids=["class.from_bytes", "codec.from_bytes", "class.decode", "codec.decode"],
    )
    def test_it_is_a_DecodeError_with_path_and_offset(self, decode):
        data = b"\1\0\0\0a" + b"\2\0\0\0" + b"\x05\x09"
        with pytest.raises(DecodeError, match="ValueError while the value was made: 9 is over 5") as caught:
            decode(data)
        assert (caught.value.path, caught.value.offset) == ("Many.items[1]", len(data))
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.__cause__.__traceback__ is not None

    def test_other_errors_keep_their_kind(self):
        class Own(Codec):
            x: u8

            def __post_init__(self) -> None:
                raise [InvalidBool(7, 3, "own"), KeyboardInterrupt(), MemoryError()][self.x]

        for x, kind in enumerate((InvalidBool, KeyboardInterrupt, MemoryError)):
            with pytest.raises(kind) as caught:
                Own.from_bytes(bytes([x]))
            assert caught.value.__cause__ is None

    def test_nothing_leaks(self):
        alive = []

        class Refused(Exception):
            pass

        class Late(Codec):
            x: u32

            def __post_init__(self) -> None:
                error = Refused("no")
                alive.append(weakref.ref(error))
                raise error

        with pytest.raises(DecodeError):
            codec(list[Late]).from_bytes(b"\2\0\0\0" + bytes(8))
        gc.collect()
        assert [ref() for ref in alive] == [None]


class TestWhatAValueRaises:
    def test_it_is_an_EncodeError_with_path(self):
        class Bad:
            def __float__(self) -> float:
                raise RuntimeError("no number today")

        class BadIndex:
            def __index__(self) -> int:
                raise LookupError("nor today")

        with pytest.raises(EncodeError, match="RuntimeError while the value was read: no number") as caught:
            Holder([Real(1.0), Real(Bad())]).to_bytes()  # type: ignore[arg-type]
        assert caught.value.path == "Holder.reals[1].x"
        assert isinstance(caught.value.__cause__, RuntimeError)
        with pytest.raises(EncodeError, match=r"^encode error: Small\.x: LookupError while"):
            Small.to_bytes(_small(BadIndex()))
        with pytest.raises(EncodeError, match=r"^encode error: Real\.x: TypeError while .*0-dimensional"):
            Real(np.array([1.5])).to_bytes()  # type: ignore[arg-type]

    def test_what_ends_a_program_goes_on(self):
        for kind in (KeyboardInterrupt, MemoryError, SystemExit):

            class Bad:
                def __float__(self) -> float:
                    raise kind  # noqa: B023

            with pytest.raises(kind):
                Real(Bad()).to_bytes()  # type: ignore[arg-type]


def _small(x: Any) -> Small:
    value = Small(1)
    value.x = x
    return value


class TestArrays:
    def test_an_array_of_bools(self):
        value = np.array([True, False, True])
        raw = Mask(value).to_bytes()
        assert raw == b"\3\0\0\0\1\0\1" == codec(list[bool]).to_bytes([True, False, True])
        back = Mask.from_bytes(raw)
        assert back.bits.dtype == bool
        assert back == Mask(value)
        assert Mask.from_bytes(Mask(np.zeros(0, bool)).to_bytes()).bits.shape == (0,)
        with pytest.raises(InvalidBool) as caught:
            Mask.from_bytes(b"\3\0\0\0\1\2\1")
        assert (caught.value.offset, caught.value.path, caught.value.value) == (5, "Mask.bits[1]", 2)
        for wrong in (np.zeros(3, np.uint8), [True], b"\1"):
            with pytest.raises(EncodeError, match=r"Mask\.bits: expected .*bool"):
                Mask(wrong).to_bytes()  # type: ignore[arg-type]
        with pytest.raises(EncodeError, match=r"Mask\.bits\[1\]: is a number that the column cannot hold"):
            Mask(np.array([1, 7], np.uint8).view(bool)).to_bytes()
        with pytest.raises(DecodeError):
            Mask.from_bytes(b"\4\0\0\0\1")
        assert str(codec(Mask).schema.text).count("bits [bool]") == 1

    def test_two_dimensions_would_arrive_as_one(self):
        class Row(Codec):
            x: u8

        numbers = np.zeros((2, 3), np.float32)
        for type_, value in (
            (NDArray[np.float32], numbers),
            (NDArray[np.bool_], np.zeros((2, 3), bool)),
            (list[Row], np.zeros((2, 3), codec(Row).dtype)),
        ):
            with pytest.raises(
                EncodeError, match=r"expected one dimension, got 2, shape \(2, 3\): its ravel"
            ):
                codec(type_).to_bytes(value)
            assert codec(type_).to_bytes(value.ravel())[:4] == b"\6\0\0\0"

    def test_where_no_ndarray_comes_out_a_matrix_is_its_items(self):
        assert len(codec(Array[f32]).to_bytes(np.zeros((2, 3), np.float32))) == 28
        assert len(codec(FixedArray[f32, 6]).to_bytes(np.zeros((2, 3), np.float32))) == 24


SOURCE = """
import enum
from deli_com import Codec, u8

class Side(enum.Enum):
    BUY = 0

class Point(Codec):
    x: u8

class Line(Codec):
    a: Point
    side: Side

class Shape(Codec, sealed=True):
    pass

class Dot(Shape):
    x: u8

class Drawing(Codec):
    shape: Shape
"""


class TestTwoClassesOfOneName:
    @pytest.fixture
    def module(self, tmp_path, monkeypatch):
        (tmp_path / "told_apart.py").write_text(SOURCE)
        monkeypatch.syspath_prepend(str(tmp_path))
        yield importlib.import_module("told_apart")
        del sys.modules["told_apart"]

    def test_a_module_that_was_reloaded(self, module):
        old = types.SimpleNamespace(**vars(module))
        new = importlib.reload(module)
        with pytest.raises(
            EncodeError, match=r"expected told_apart\.Point, got told_apart\.Point of an earlier def"
        ):
            new.Line(old.Point(1), new.Side.BUY).to_bytes()
        with pytest.raises(
            EncodeError, match=r"Line\.side: expected told_apart\.Side, got told_apart\.Side of an e"
        ):
            new.Line(new.Point(1), old.Side.BUY).to_bytes()
        with pytest.raises(
            EncodeError,
            match=r"a variant of told_apart\.Shape, got Dot, a variant of told_apart\.Shape of an earlier",
        ):
            new.Drawing(old.Dot(1)).to_bytes()
        with pytest.raises(
            EncodeError, match=r"expected told_apart\.Point of an earlier definition, got the present "
        ):
            codec(old.Point).to_bytes(new.Point(1))

    def test_two_modules(self, module, monkeypatch):
        other = types.ModuleType("elsewhere")
        monkeypatch.setitem(sys.modules, "elsewhere", other)
        exec(SOURCE, vars(other))
        with pytest.raises(EncodeError, match=r"expected told_apart\.Point, got elsewhere\.Point$"):
            codec(module.Point).to_bytes(other.Point(1))
        main = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", main)
        exec(SOURCE, vars(main))
        with pytest.raises(
            EncodeError, match=r"got __main__\.Point \(a file that is run and imported as well"
        ):
            codec(module.Point).to_bytes(main.Point(1))

    def test_local_classes(self):
        def make() -> Any:
            class Local(Codec):
                x: u8

            return Local

        with pytest.raises(EncodeError, match=r"got .*Local of another definition$"):
            codec(make()).to_bytes(make()(1))

    def test_other_names_stay_short(self):
        with pytest.raises(EncodeError, match=r"^encode error: Small: expected Small, got Real$"):
            codec(Small).to_bytes(Real(1.0))  # type: ignore[arg-type]

    def test_reloading_tools_update_what_they_may(self, module):
        """IPython's autoreload sets the attributes of the new class on the old one, and skips a TypeError."""
        old = types.SimpleNamespace(**vars(module))
        new = importlib.reload(module)
        for name in list(vars(old.Point)):
            try:
                setattr(old.Point, name, getattr(new.Point, name))
            except (AttributeError, TypeError):
                pass
        value = old.Point(7)
        assert value.to_bytes() == b"\7"
        assert old.Point.from_bytes(b"\7") == value
        assert value.x == 7
        for name in ("to_bytes", "from_bytes"):
            with pytest.raises(TypeError, match="this is the method of another class"):
                setattr(old.Point, name, getattr(new.Point, name))
        with pytest.raises(TypeError, match=r"Point\.x is a field"):
            old.Point.x = 5
        for name in ("x", "to_bytes"):
            with pytest.raises(TypeError, match=rf"Point\.{name} cannot be deleted"):
                delattr(old.Point, name)

    def test_methods_may_be_replaced(self, monkeypatch):
        monkeypatch.setattr(Real, "from_bytes", lambda data: "mine")
        assert Real.from_bytes(b"") == "mine"  # type: ignore[comparison-overlap]


def make_by_value() -> Any:
    """A class that pickles cannot find by its name."""

    class Local(Codec):
        x: u8

    return Local


def work(value: Any) -> bytes:
    return value.to_bytes()  # type: ignore[no-any-return]


class TestByValuePickles:
    def test_a_class_that_would_arrive_empty_is_refused(self):
        cls = make_by_value()
        for what in (cls, cls(1), lambda: cls(1).to_bytes()):
            with pytest.raises(
                pickle.PicklingError, match=r"Local of .*by value.*Put it in a module that both"
            ):
                cloudpickle.dumps(what)

    def test_a_class_of_main(self, monkeypatch):
        main = types.ModuleType("__main__")
        exec("from deli_com import Codec, u8\nclass Cell(Codec):\n    x: u8\n", vars(main))
        with pytest.raises(pickle.PicklingError, match="Cell of __main__ cannot be pickled by value"):
            cloudpickle.dumps(vars(main)["Cell"])

    def test_what_was_pickled_elsewhere_is_refused_as_it_arrives(self):
        cls = types.new_class("Cell", (Codec,))
        with pytest.raises(TypeError, match="Cell arrives without its fields: it was pickled by value"):
            cls.__slots__ = ("x",)  # type: ignore[attr-defined]

    def test_a_class_of_a_module_goes_by_its_name(self):
        assert cloudpickle.loads(cloudpickle.dumps(Small(3))) == Small(3)
        assert cloudpickle.loads(cloudpickle.dumps(lambda: Small(3).to_bytes()))() == b"\3"
        assert cloudpickle.loads(cloudpickle.dumps(codec(Small))) is codec(Small)

    def test_joblib(self):
        with joblib.parallel_config("loky", n_jobs=2):
            with pytest.raises(pickle.PicklingError) as caught:
                joblib.Parallel()(
                    joblib.delayed(lambda x: x.to_bytes())(make_by_value()(1)) for _ in range(2)
                )
        causes = [str(caught.value), str(caught.value.__cause__)]
        assert any("Put it in a module" in text for text in causes)


class TestWhatADataclassCanDo:
    def test_the_decorator_makes_it_frozen_and_hashable(self):
        @dataclasses.dataclass(frozen=True)
        class Key(Codec):
            x: u8

        assert hash(Key(1)) == hash(Key(1))
        assert {Key(1): "a"}[Key.from_bytes(b"\1")] == "a"
        with pytest.raises(dataclasses.FrozenInstanceError):
            Key(1).x = 2  # type: ignore[misc]

    def test_frozen_twice(self):
        @dataclasses.dataclass(frozen=True)
        class Key(Codec, frozen=True):
            x: u8

        assert {Key(1), Key(1)} == {Key(1)}
        with pytest.raises(dataclasses.FrozenInstanceError):
            Key(1).x = 2  # type: ignore[misc]
        assert Key.from_bytes(Key(3).to_bytes()) == Key(3)

    def test_unsafe_hash_order_and_a_base(self):
        class Base(Codec):
            x: u8

        @dataclasses.dataclass(unsafe_hash=True, order=True)
        class Key(Base):
            y: u8

        assert len({Key(1, 2), Key(1, 2)}) == 1
        assert Key(1, 2) < Key(1, 3)
        assert Key.from_bytes(b"\1\2") == Key(1, 2)

    def test_a_plain_decorator_changes_nothing(self):
        @dataclasses.dataclass
        class Plain(Codec):
            x: u8

        with pytest.raises(TypeError, match="unhashable"):
            hash(Plain(1))

    def test_abstract_classes(self):
        class Shape(Codec, abc.ABC, sealed=True):
            @abc.abstractmethod
            def area(self) -> float: ...

        class Square(Shape):
            side: f32

            def area(self) -> float:
                return self.side**2

        with pytest.raises(TypeError, match="Circle: a variant has values, so it must define area"):

            class Circle(Shape):
                radius: f32

        assert Shape.from_bytes(Square(2.0).to_bytes()).area() == 4.0

        class Named(abc.ABC, Codec):
            name: str

            @property
            @abc.abstractmethod
            def full(self) -> str: ...

        class Person(Named):
            age: u8

            @property
            def full(self) -> str:
                return f"{self.name}, {self.age}"

        assert Person("Ann", 5).full == "Ann, 5"
        assert Person.from_bytes(Person("Ann", 5).to_bytes()) == Person("Ann", 5)
        with pytest.raises(TypeError, match="Named is abstract and makes no instances: full must be defined"):
            Named("x")  # type: ignore[abstract]
        with pytest.raises(TypeError, match="Named is abstract, so it has no values"):
            codec(list[Named])
        with pytest.raises(TypeError, match="abstract"):
            Named.from_bytes(bytes(8))

    def test_isinstance_is_that_of_plain_classes(self):
        class Sub(Real):
            y: f32

        assert isinstance(Sub(1.0, 2.0), Real)
        assert not isinstance(5, Real)
        assert issubclass(Sub, Codec)
        assert type(Codec).__instancecheck__ is type.__instancecheck__

    def test_weak_references(self):
        class Node(Codec, weakref_slot=True):
            x: u32

        class Leaf(Node, weakref_slot=True):
            y: u32

        for make in (lambda: Node(1000), lambda: Leaf(1000, 2), lambda: Leaf.from_bytes(bytes(8))):
            value: Any = make()
            ref = weakref.ref(value)
            assert ref() is value
            del value
            gc.collect()
            assert ref() is None
        with pytest.raises(TypeError, match="weak reference"):
            weakref.ref(Real(1.0))

    def test_cached_properties(self):
        class Box(Codec):
            x: u32

            @functools.cached_property
            def doubled(self) -> int:
                calls.append(self.x)
                return 2 * self.x

        class More(Box):
            y: u32

        calls: list[int] = []
        for value in (Box(1000), Box.from_bytes(Box(1000).to_bytes()), More(1000, 1)):
            assert (value.doubled, value.doubled) == (2000, 2000)
        assert calls == [1000] * 3
        assert Box(1) == Box(1)

    def test_a_keyword_that_is_none(self):
        for keyword in ("policyy", "polciy", "Policy"):
            with pytest.raises(
                TypeError, match=f"Pose: '{keyword}' is no class keyword of Codec; did you mean 'policy'"
            ):

                class Pose(Codec, **{keyword: "latest"}):  # type: ignore[call-arg]
                    x: u8

        with pytest.raises(
            TypeError, match="'colour' is no class keyword of Codec; there are frozen, kw_only"
        ):

            class Pose2(Codec, colour="red"):  # type: ignore[call-arg]
                x: u8

    def test_a_mix_in_may_take_keywords(self):
        class Registered:
            seen: ClassVar[list[str]] = []

            def __init_subclass__(cls, *, tag: str = "", **kwargs: Any) -> None:
                super().__init_subclass__(**kwargs)
                cls.seen.append(tag)

        class Pose(Registered, Codec, tag="pose"):  # type: ignore[call-arg]
            x: u8

        assert Registered.seen == ["pose"]


class Side(enum.Enum):
    BUY = 0
    SELL = 1


def test_a_member_that_is_none():
    with pytest.raises(EncodeError, match=r"^encode error: expected Side, got str$"):
        codec(Side).to_bytes("BUY")  # type: ignore[arg-type]


class Base(Codec, sealed=True):
    pass


class Leaf(Base):
    x: u8


@pytest.mark.parametrize(
    ("tp", "value", "says"),
    [
        (Small, Small, "expected Small, got the class Small, not an instance of it"),
        (Small, Leaf, "expected Small, got the class Leaf, not an instance of it"),
        (Base, Leaf, "expected a variant of Base, got the class Leaf, not an instance of it"),
        (Side, Side, "expected Side, got the class Side, not an instance of it"),
        (u8, int, "expected u8, got the class int, not an instance of it"),
        (str, str, "expected str, got the class str, not an instance of it"),
        (bytes, bytes, "expected bytes, got the class bytes, not an instance of it"),
        (list[u8], list, "expected list, got the class list, not an instance of it"),
        (Array[f32], Array, "expected a buffer of f32, got the class Array, not an instance of it"),
    ],
)
def test_a_class_in_place_of_a_value(tp, value, says):
    with pytest.raises(EncodeError) as caught:
        codec(tp).to_bytes(value)
    assert says in str(caught.value)


@pytest.mark.parametrize("tp", [Array[f32], NDArray[np.float32]])
def test_an_array_of_no_dimension_is_no_array_of_numbers(tp):
    with pytest.raises(EncodeError, match=r"expected one dimension, got 0: .* its ravel\(\) has one"):
        codec(tp).to_bytes(np.array(1.0, "f4"))  # type: ignore[arg-type]
