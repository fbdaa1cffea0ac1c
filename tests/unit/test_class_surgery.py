"""Giving a value another layout, or another class, raises TypeError, and everything works as before."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from deli_com import Codec, EncodeError, f64, u8


class Point(Codec):
    x: u8
    y: str


class Twin(Codec):  # the same layout
    x: u8
    y: str


class Wide(Codec):
    x: f64
    y: list[u8]
    z: str


class Shape(Codec, sealed=True):
    pass


class Dot(Shape):
    x: u8
    y: str


class Child(Point):
    z: u8


class Mixed:
    """A mix-in that gives values a `__dict__`."""


class Loose(Mixed, Codec):
    x: u8


class Looser(Mixed, Codec):
    x: u8


class Referred(Codec, weakref_slot=True):
    x: u8


VALUES: list[Any] = [
    Point(1, "a"),
    Twin(2, "b"),
    Wide(1.0, [1], "c"),
    Dot(3, "d"),
    Child(1, "e", 2),
    Loose(4),
    Looser(5),
    Referred(6),
]
CLASSES: list[Any] = [*map(type, VALUES), Shape, Codec, Mixed, object]


@pytest.fixture(autouse=True)
def all_works_as_before() -> Any:
    before = [value.to_bytes() for value in VALUES]
    yield
    gc.collect()
    assert [value.to_bytes() for value in VALUES] == before
    assert [type(value).from_bytes(data) for value, data in zip(VALUES, before, strict=True)] == VALUES


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_the_class_of_a_value_cannot_be_set(value: Any) -> None:
    for cls in CLASSES:
        with pytest.raises(TypeError, match="__class__"):
            value.__class__ = cls
    assert value.__class__ is type(value)
    assert isinstance(value, type(value))
    assert not isinstance(value, int)


@pytest.mark.parametrize("cls", CLASSES[:-2], ids=lambda cls: cls.__name__)
def test_the_bases_of_a_class_cannot_be_set(cls: Any) -> None:
    for bases in [*((other,) for other in CLASSES), (), cls.__bases__, (*cls.__bases__, Mixed)]:
        with pytest.raises(TypeError, match="__bases__ cannot be set"):
            cls.__bases__ = bases


@pytest.mark.parametrize("name", ["x", "y", "to_bytes", "encode", "from_bytes", "decode"])
def test_what_values_are_made_of_cannot_be_deleted(name: str) -> None:
    with pytest.raises(TypeError, match="cannot be deleted"):
        delattr(Point, name)


def test_no_other_value_becomes_one() -> None:
    class Slotted:
        __slots__ = ("x", "y")

    for cls in CLASSES[:-2]:
        with pytest.raises(TypeError, match="__class__"):
            Slotted().__class__ = cls
        with pytest.raises(TypeError, match="__class__"):
            Mixed().__class__ = cls


@pytest.mark.parametrize("value", VALUES[:4], ids=lambda value: type(value).__name__)
def test_a_field_that_was_deleted_is_told_by_name(value: Any) -> None:
    """A slot without a value is legal Python: all that needs it says which it is."""
    calls: list[Callable[[Any], Any]] = [
        lambda blank: blank.to_bytes(),
        lambda blank: blank.encode(bytearray()),
        copy.copy,
        copy.deepcopy,
        pickle.dumps,
    ]
    for name in ("x", "y"):
        blank = copy.copy(value)
        delattr(blank, name)
        assert name in repr(blank)
        assert blank != value
        for call in calls:
            with pytest.raises((AttributeError, EncodeError), match=rf"\.{name}\b.*is not set"):
                call(blank)
