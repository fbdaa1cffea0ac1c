"""Annotations: how they are read, and how wrong ones are refused."""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from typing import Annotated, Any, ClassVar, Literal, Optional

import numpy as np
import pytest
import typing_extensions
from numpy.typing import NDArray

from deli_com import Array, Codec, FixedArray, codec, errors, f32, f64, field, u8, u16, u32

Alias = typing_extensions.TypeAliasType("Alias", list[u8])
Unending: Any = typing_extensions.TypeAliasType("Unending", "list[Unending]")  # type: ignore[misc]


class Point(Codec):
    x: f32
    y: f32


class Later(Codec):
    """Refers to what the module defines further down."""

    after: After | None
    many: list[After]


class After(Codec):
    value: u8


class Permission(enum.Flag):
    READ = 1


class NoMembers(enum.Enum):
    pass


def define(annotation: Any, **keywords: Any) -> Any:
    """A struct `X` with one field `a` of this annotation."""
    return type(Codec)(
        "X", (Codec,), {"__module__": __name__, "__annotations__": {"a": annotation}}, **keywords
    )


class TestRefusals:
    @pytest.mark.parametrize(
        ("annotation", "words"),
        [
            (int, "u8 u16 u32 u64"),
            (float, "f32 or f64"),
            (list, r"list\[T\]"),
            (tuple, "tuple"),
            (typing.List, r"list\[T\]"),  # noqa: UP006
            (list[int], "int has no size"),
            (dict[str, u8], "the wire has no maps: write a list of pairs"),
            (set[u8], "set"),
            (bytearray, "bytes"),
            (object, "object"),
            (Any, "Any"),
            (None, "None"),
            (complex, "complex"),
            (Codec, "Codec itself"),
            (Literal[1], "Literal"),
            (u8 | str, "sealed"),
            (u8 | str | None, "sealed"),
            (Optional[int], "int has no size"),
            (Array, r"Array\[f32\]"),
            (Array[str], "items are numbers"),
            (Array[Point], "items are numbers"),
            (FixedArray, "Literal"),
            (FixedArray[u8, Literal[-1]], "Literal"),
            (FixedArray[u8, Literal["x"]], "Literal"),
            (FixedArray[u8, Literal[1, 2]], "Literal"),
            (FixedArray[u8, Literal[True]], "Literal"),
            (FixedArray[int, Literal[3]], "int has no size"),
            (np.ndarray, "NDArray"),
            (NDArray[np.complex128], "NDArray"),
            (NDArray[np.float16], "NDArray"),
            (NDArray[Any], "NDArray"),
            (NDArray[np.integer[Any]], "NDArray"),
            (NDArray[np.void], "needs the struct"),
            (Annotated[NDArray[np.void], "x"], "needs the struct"),
            (np.float32, "float32"),
            (Permission, "Flag"),
            (NoMembers, "no members"),
            (Unending, "contains itself"),
            (f32.__origin__, "f32 or f64"),  # type: ignore[attr-defined]
        ],
    )
    def test_no_wire_form(self, annotation: Any, words: str) -> None:
        """TypeError at the definition, naming class, field and choices; from codec() as well."""
        with pytest.raises(TypeError, match=words) as caught:
            define(annotation)
        assert "X.a" in str(caught.value)
        assert "choices" in str(caught.value)
        with pytest.raises(TypeError, match=words):
            codec(annotation)

    def test_postponed_annotations_are_refused_at_the_definition_too(self) -> None:
        with pytest.raises(TypeError, match=r"X\.a: int has no size"):
            define("list[int]")

    @pytest.mark.parametrize("name", ["to_bytes", "encode", "from_bytes", "decode", "__len__"])
    def test_reserved_names(self, name: str) -> None:
        """Methods and dunder names cannot be fields; the text says to rename."""
        with pytest.raises(TypeError, match="rename"):
            type(Codec)("X", (Codec,), {"__annotations__": {name: u8}})

    def test_missing_names_at_the_first_use(self) -> None:
        """The definition passes, compiling names the field."""
        cls = define("Nowhere | None")
        with pytest.raises(TypeError, match=r"X\.a: name 'Nowhere' is not defined"):
            cls(None).to_bytes()
        with pytest.raises(TypeError, match=r"X\.a"):
            codec(cls)

    def test_text_alone_is_no_type(self) -> None:
        with pytest.raises(TypeError, match="is a string"):
            codec("Point")

    def test_values_that_never_end(self) -> None:
        """A struct that holds itself without a way out."""
        with pytest.raises(TypeError, match="no value is finite"):
            codec(Endless)
        with pytest.raises(TypeError, match="at least"):
            codec(FixedArray[FixedArray[FixedArray[u8, Literal[2**20]], Literal[2**20]], Literal[2**20]])


class Endless(Codec):
    inner: Endless


class TestResolution:
    def test_forward_references(self) -> None:
        """What the module defines later is found at the first use."""
        value = Later(After(1), [After(2)])
        assert Later.from_bytes(value.to_bytes()) == value

    def test_local_types(self) -> None:
        """Types of the enclosing functions, defined before and after."""

        def inner() -> Any:
            class Outer(Codec):
                a: Before
                b: Behind
                c: list[Outer]
                d: Middle

            class Behind(Codec):
                y: u16

            return Outer, Behind

        class Middle(Codec):
            z: u8

        class Before(Codec):
            x: u8

        outer, behind = inner()
        value = outer(Before(1), behind(2), [], Middle(3))
        assert outer.from_bytes(value.to_bytes()) == value

    def test_frames_are_let_go(self) -> None:
        """Once everything is resolved, the locals of the function are not kept."""
        import gc
        import weakref

        class Big:
            pass

        def inner() -> tuple[Any, Any]:
            big = Big()

            class Outer(Codec):
                b: Behind

            class Behind(Codec):
                y: u16

            return Outer(Behind(1)), weakref.ref(big)

        value, reference = inner()
        value.to_bytes()
        gc.collect()
        assert reference() is None

    def test_names_of_the_class_body(self) -> None:
        class Owner(Codec):
            class Colour(enum.Enum):
                RED = 1

            colour: Colour
            u8: u8

        assert Owner.from_bytes(Owner(Owner.Colour.RED, 3).to_bytes()).u8 == 3

    def test_aliases(self) -> None:
        """Looked through, nested ones and generic ones too."""
        T = typing.TypeVar("T")
        generic = typing_extensions.TypeAliasType("generic", list[T], type_params=(T,))  # type: ignore[valid-type]
        assert codec(Alias).to_bytes([1]) == codec(list[u8]).to_bytes([1])  # type: ignore[call-overload]
        assert codec(generic[u16]).to_bytes([1]) == codec(list[u16]).to_bytes([1])  # type: ignore[misc]
        assert codec(list[Alias]).to_bytes([[1]]) == codec(list[list[u8]]).to_bytes([[1]])

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement begins with 3.12")
    def test_type_statement(self) -> None:
        names: dict[str, Any] = {"u8": u8, "Point": Point}
        exec("type X = list[Y]\ntype Y = Point | None\ntype G[T] = tuple[T, u8]", names)
        assert codec(names["X"]).to_bytes([None]) == b"\1\0\0\0\0"
        assert codec(names["G"][bool]).to_bytes((True, 2)) == b"\1\2"

    def test_class_vars_and_plain_names_are_no_fields(self) -> None:
        class Settings(Codec):
            unit: ClassVar[str] = "m"
            other: typing.ClassVar = 3
            plain = 5
            a: u8

        assert Settings.__match_args__ == ("a",)
        assert Settings(1).to_bytes() == b"\1"
        assert Settings(1).plain == 5

    def test_typing_spellings(self) -> None:
        """typing.List, typing.Optional and nested Annotated."""
        assert codec(typing.List[u8]).to_bytes([1]) == codec(list[u8]).to_bytes([1])  # noqa: UP006
        assert codec(Optional[u8]).to_bytes(None) == b"\0"  # type: ignore[arg-type]
        assert codec(Annotated[u8, "degrees"]).to_bytes(1) == b"\1"
        assert codec(FixedArray[u8, 3]).to_bytes([1, 2, 3]) == b"\1\2\3"  # type: ignore[valid-type]


class TestSealed:
    def test_index_is_the_order_of_definition(self) -> None:
        class Shape(Codec, sealed=True):
            name: str

        class Circle(Shape):
            radius: f32

        class Dot(Shape):
            pass

        assert Dot("d").to_bytes() == b"\1\0\0\0\1\0\0\0d"
        assert codec(Shape).to_bytes(Dot("d")) == Dot("d").to_bytes()
        assert Shape.from_bytes(Dot("d").to_bytes()) == Dot("d")
        assert Circle.from_bytes(Circle("c", 1).to_bytes()) == Circle("c", 1)
        with pytest.raises(errors.InvalidVariant) as caught:
            Circle.from_bytes(Dot("d").to_bytes())
        assert caught.value.index == 1
        with pytest.raises(errors.EncodeError, match="a variant of"):
            codec(Shape).to_bytes(3)  # type: ignore[arg-type]

    def test_late_variants_are_refused(self) -> None:
        """The first codec, alone or inside another type, freezes the list; an annotation does not."""

        class Base(Codec, sealed=True):
            pass

        class One(Base):
            pass

        class Uses(Codec):
            base: Base | None

        class Two(Base):
            pass

        assert Uses(Two()).to_bytes() == b"\1\1\0\0\0"
        with pytest.raises(TypeError, match="comes too late"):

            class Three(Base):
                pass

    def test_a_failed_compilation_freezes_nothing(self) -> None:
        class Base(Codec, sealed=True):
            pass

        class One(Base):
            pass

        class Broken(Codec):
            base: Base
            other: Missing  # type: ignore[name-defined]  # noqa: F821

        with pytest.raises(TypeError):
            codec(Broken)

        class Two(Base):
            pass

        assert codec(Base).to_bytes(Two()) == b"\1\0\0\0"

    def test_same_name_twice(self) -> None:
        class Base(Codec, sealed=True):
            pass

        class One(Base):
            pass

        with pytest.raises(TypeError, match=r"run the definition of .*Base again"):

            class One(Base):  # type: ignore[no-redef]
                pass

    def test_another_module(self) -> None:
        class Base(Codec, sealed=True):
            pass

        with pytest.raises(TypeError, match="in its module"):
            type(Codec)("One", (Base,), {"__module__": "elsewhere"})

    def test_variants_are_final_and_alone_no_type(self) -> None:
        class Base(Codec, sealed=True):
            pass

        with pytest.raises(TypeError, match="no variants"):
            codec(Base)

        class One(Base):
            pass

        with pytest.raises(TypeError, match="final"):

            class Sub(One):
                pass

        with pytest.raises(TypeError, match="cannot be sealed"):

            class Two(Base, sealed=True):
                pass

        for annotation in (One, list[One], One | None):
            with pytest.raises(TypeError, match="is a variant"):
                codec(annotation)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="makes no instances"):
            Base()

    def test_union_of_all_variants(self) -> None:
        """In any order, aliased, optional: the sealed type. An incomplete one is refused by name."""

        class Base(Codec, sealed=True):
            pass

        class A(Base):
            pass

        class B(Base):
            x: u8

        class C(Base):
            pass

        alias = typing_extensions.TypeAliasType("alias", A | B)
        for union in (A | B | C, C | A | B, typing.Union[B, C, A]):
            assert codec(union).to_bytes(B(1)) == B(1).to_bytes()  # type: ignore[arg-type]
        assert codec(C | A | B | None).to_bytes(None) == b"\0"  # type: ignore[arg-type]
        assert codec(typing.Union[alias, C]).to_bytes(C()) == C().to_bytes()
        with pytest.raises(TypeError, match=r"lacks .*C"):
            codec(A | B)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="sealed class"):
            codec(A | Point)  # type: ignore[arg-type]

    def test_frozen_stands_on_base_and_variants(self) -> None:
        class Base(Codec, sealed=True, frozen=True):
            pass

        with pytest.raises(TypeError, match="so it needs frozen=True too"):

            class One(Base):
                pass

        class Two(Base, frozen=True):
            x: u8

        assert hash(Two(1)) == hash(Two(1))

        class Open(Codec, sealed=True):
            pass

        with pytest.raises(TypeError, match="needs frozen=True too"):

            class Three(Open, frozen=True):
                pass


class TestClassBodies:
    def test_mutable_defaults(self) -> None:
        """As a dataclass: ValueError; and TypeError as everything else here."""
        for default in ([], {}, set(), bytearray(), Point(1, 2), np.zeros(1)):
            for kind in (ValueError, TypeError):
                with pytest.raises(kind, match="default_factory"):
                    type(Codec)("X", (Codec,), {"__annotations__": {"a": list[u8]}, "a": default})

    def test_order_of_defaults(self) -> None:
        with pytest.raises(TypeError, match=r"X\.b.*follows a"):
            type(Codec)("X", (Codec,), {"__annotations__": {"a": u8, "b": u8}, "a": 1})

    def test_forbidden_bodies(self) -> None:
        """`__init__`, `__new__`, `__slots__`, generics, Protocols, InitVar, dataclasses.field."""
        T = typing.TypeVar("T")
        body: dict[str, Any]
        for body, word in (
            ({"__init__": lambda self: None}, "__init__"),
            ({"__new__": lambda cls: None}, "__new__"),
            ({"__slots__": ()}, "__slots__"),
            ({"__annotations__": {"a": dataclasses.InitVar[int]}}, "InitVar"),
            ({"__annotations__": {"a": u8}, "a": dataclasses.field(default=1)}, r"deli_com\.field"),
        ):
            with pytest.raises(TypeError, match=word):
                type(Codec)("X", (Codec,), body)
        with pytest.raises(TypeError, match="generic"):

            class Generic(Codec, typing.Generic[T]):
                pass

        with pytest.raises(TypeError):

            class Structural(Codec, typing.Protocol):  # type: ignore[misc]
                pass

        with pytest.raises(TypeError, match="makes no instances"):
            Codec()

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax begins with 3.12")
    def test_generic_syntax(self) -> None:
        with pytest.raises(TypeError, match="generic"):
            exec("class X[T](Codec): pass", {"Codec": Codec, "__name__": __name__})

    def test_fields_of_the_base_stay(self) -> None:
        """They cannot be declared or set again; two structs cannot be joined."""

        class Base(Codec):
            a: u8

        class Other(Codec):
            b: u8

        for body in ({"__annotations__": {"a": u16}}, {"a": 3}):
            with pytest.raises(TypeError, match=r"X\.a"):
                type(Codec)("X", (Base,), body)
        with pytest.raises(TypeError, match="extends one struct"):
            type(Codec)("X", (Base, Other), {})

    def test_field_refuses_nonsense(self) -> None:
        with pytest.raises(ValueError, match="not both"):
            field(default=1, default_factory=int)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="callable"):
            field(default_factory=3)  # type: ignore[call-overload]

    def test_sums_of_sizes(self) -> None:
        """Nested structs and unions have the sizes of the wire document."""
        assert codec(tuple[Point, u32, bool]).min_size == 13
        assert codec(f64).max_size == 8
