"""The class keywords `policy`, `key` and `retain`: their meaning, and the errors for invalid ones."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pytest

from deli_com import Array, Codec, FixedArray, codec, f32, f64, i8, i64, u8, u32, u64
from deli_com.types.delivery import POLICIES, Delivery, delivery

LATEST = "latest"


class Side(enum.Enum):
    BUY = "b"
    SELL = "s"


class Mutable(Codec):
    id: u32


class Symbol(Codec, frozen=True):
    name: str
    venue: u8 | None = None


class Place(Codec, frozen=True):
    at: Symbol
    x: f64 = 0.0


class Chain(Codec, frozen=True):
    """Recursive, and every part of it can be told apart."""

    id: u8
    next: Chain | None = None


class Choice(Codec, frozen=True, sealed=True):
    pass


class Yes(Choice, frozen=True):
    pass


class Early(Codec, policy="latest", key="later"):
    """Its key resolves at the first compilation."""

    later: Later


class Later(Codec):
    id: u8


class EarlyInside(Codec, policy="latest", key="hidden"):
    """Its key is known and frozen, and what that holds resolves at the first compilation."""

    hidden: Hidden


class Hidden(Codec, frozen=True):
    part: LaterFloat


class LaterFloat(Codec, frozen=True):
    x: f32


def define(bases: Any = Codec, /, name: str = "Pose", *, fields: Any = None, **keywords: Any) -> Any:
    """A class with fields `id` and `x`, or others, and these class keywords."""
    made = {"id": u32, "x": f32} if fields is None else fields
    body = {"__module__": __name__, "__qualname__": name, "__annotations__": made}
    return type(Codec)(name, (bases,), body, **keywords)


def refused(words: str, bases: Any = Codec, /, name: str = "Pose", **keywords: Any) -> str:
    with pytest.raises(TypeError, match=words) as caught:
        define(bases, name, **keywords)
    assert name in str(caught.value)
    return str(caught.value)


class TestKeywords:
    def test_a_class_that_says_nothing_leaves_it_to_the_server(self) -> None:
        assert delivery(define()) == Delivery(None, None, False)

    @pytest.mark.parametrize("policy", POLICIES)
    def test_every_policy_is_kept(self, policy: str) -> None:
        assert delivery(define(policy=policy)) == Delivery(policy, None, False)

    def test_one_field_is_a_key_of_one(self) -> None:
        assert delivery(define(policy=LATEST, key="id")) == Delivery(LATEST, ("id",), False)

    def test_several_fields_keep_their_order(self) -> None:
        made = define(policy=LATEST, key=("s", "id"), retain=True, fields={"id": u32, "s": str})
        assert delivery(made) == Delivery(LATEST, ("s", "id"), True)

    def test_the_empty_key_is_one_slot(self) -> None:
        assert delivery(define(policy=LATEST, key=())).key == ()

    def test_retention_may_be_declined_anywhere(self) -> None:
        assert delivery(define(policy="skip", retain=False)) == Delivery("skip", None, False)

    def test_other_keywords_stand_beside_them(self) -> None:
        made = define(policy=LATEST, key="id", frozen=True, kw_only=True)
        assert hash(made(id=1, x=2.0)) == hash(made(x=2.0, id=1))

    def test_the_bytes_are_those_of_a_class_without(self) -> None:
        plain, keyed = define(), define(policy=LATEST, key="id", retain=True)
        assert plain(7, 1.5).to_bytes() == keyed(7, 1.5).to_bytes() == bytes.fromhex("070000000000c03f")

    def test_Codec_itself_is_no_message(self) -> None:
        with pytest.raises(TypeError, match="Codec itself is no message"):
            delivery(Codec)

    def test_what_is_no_Codec_class_has_no_delivery(self) -> None:
        with pytest.raises(TypeError, match="expected a Codec class"):
            delivery(int)


class TestInheritance:
    BASE = define(name="Base", policy=LATEST, key="id", retain=True)

    def test_a_subclass_inherits_what_it_does_not_name(self) -> None:
        assert delivery(define(self.BASE, fields={})) == Delivery(LATEST, ("id",), True)
        assert delivery(define(self.BASE, fields={}, policy=LATEST)) == Delivery(LATEST, ("id",), True)
        assert delivery(define(self.BASE, fields={}, retain=False)) == Delivery(LATEST, ("id",), False)
        assert delivery(define(self.BASE, fields={}, key=())) == Delivery(LATEST, (), True)

    def test_a_subclass_may_add_its_own_field_to_the_key(self) -> None:
        made = define(self.BASE, fields={"part": u8}, key=("id", "part"))
        assert delivery(made) == Delivery(LATEST, ("id", "part"), True)

    @pytest.mark.parametrize("policy", ["disconnect", "wait", "skip"])
    def test_another_policy_drops_the_inherited_key(self, policy: str) -> None:
        assert delivery(define(self.BASE, fields={}, policy=policy)) == Delivery(policy, None, False)

    def test_a_dropped_key_does_not_come_back(self) -> None:
        between = define(self.BASE, "Between", fields={}, policy="skip")
        assert delivery(define(between, fields={}, policy=LATEST)) == Delivery(LATEST, None, False)

    def test_a_base_without_a_policy_gives_none(self) -> None:
        assert delivery(define(define(name="Base"), fields={}, policy="wait")) == Delivery("wait")

    def test_a_sealed_class_gives_the_default_of_its_variants(self) -> None:
        shape = define(name="Shape", sealed=True, policy=LATEST, key="id")
        plain = define(shape, "Plain", fields={})
        state = define(shape, "State", fields={}, policy="disconnect")
        video = define(shape, "Video", fields={"camera": str}, key=("id", "camera"), retain=True)
        assert delivery(plain) == Delivery(LATEST, ("id",), False)
        assert delivery(state) == Delivery("disconnect", None, False)
        assert delivery(video) == Delivery(LATEST, ("id", "camera"), True)
        assert delivery(shape) == Delivery(LATEST, ("id",), False)


class TestRefusals:
    @pytest.mark.parametrize("policy", ["newest", "", "Latest", 3, ("latest",), ["latest"]])
    def test_an_unknown_policy(self, policy: Any) -> None:
        text = refused("policy is one of", policy=policy)
        assert all(f'"{name}"' in text for name in POLICIES)
        assert repr(policy) in text

    @pytest.mark.parametrize("key", [3, ["id"], b"id", ("id", 3), {"id"}])
    def test_a_key_that_names_nothing(self, key: Any) -> None:
        assert "key is the name of a field" in refused("tuple of such names", policy=LATEST, key=key)

    @pytest.mark.parametrize("key", ["ident", ("id", "ident"), ""])
    def test_a_key_that_is_no_field(self, key: Any) -> None:
        assert "its fields are id, x" in refused("which is no field of Pose", policy=LATEST, key=key)

    def test_a_key_of_a_class_without_fields(self) -> None:
        refused("it has no fields", policy=LATEST, key="id", fields={})

    def test_a_field_named_twice(self) -> None:
        refused("names a field twice", policy=LATEST, key=("id", "id"))

    @pytest.mark.parametrize("policy", ["disconnect", "wait", "skip", None])
    @pytest.mark.parametrize(("keyword", "value"), [("key", "id"), ("key", ()), ("retain", True)])
    def test_a_keyword_that_needs_latest(self, policy: Any, keyword: str, value: Any) -> None:
        text = refused('is valid with policy="latest" only', policy=policy, **{keyword: value})
        assert f"{keyword}={value!r}" in text
        assert ("it has none" if policy is None else f'its policy is "{policy}"') in text

    def test_a_key_beside_another_policy_than_the_inherited(self) -> None:
        refused('its policy is "skip"', TestInheritance.BASE, fields={}, policy="skip", key="id")

    @pytest.mark.parametrize("retain", [1, 0, "yes"])
    def test_retain_that_is_no_bool(self, retain: Any) -> None:
        refused("retain is True or False", policy=LATEST, retain=retain)

    def test_a_key_of_a_sealed_class_is_one_of_its_own_fields(self) -> None:
        refused("which is no field of Shape", name="Shape", sealed=True, policy=LATEST, key="radius")


class TestKeyFields:
    @pytest.mark.parametrize(
        "annotation",
        [
            u8,
            i64,
            bool,
            str,
            bytes,
            Side,
            Symbol,
            Chain,
            u32 | None,
            Symbol | None,
            tuple[u8, str],
            tuple[u8, tuple[Side, Symbol | None]],
            tuple[str, ...],
        ],
    )
    def test_what_can_be_told_apart(self, annotation: Any) -> None:
        made = define(policy=LATEST, key="id", fields={"id": annotation})
        codec(made)
        assert delivery(made).key == ("id",)

    @pytest.mark.parametrize(
        ("annotation", "shown", "why"),
        [
            (f32, "f32", "nan"),
            (f64, "f64", "nan"),
            (f64 | None, r".*f64", "nan"),
            (tuple[u8, f32], r"tuple\[u8, f32\]", "nan"),
            (list[u8], r"list\[u8\]", "mutable"),
            (tuple[list[u8], ...], r"tuple\[list\[u8\], ...\]", "mutable"),
            (Array[u8], r"Array\[u8\]", "mutable"),
            (FixedArray[u8, Literal[2]], "FixedArray", "mutable"),
            (Mutable, "Mutable", "Mutable is mutable, frozen=True"),
            (tuple[Symbol, Mutable], "tuple", "Mutable is mutable"),
            (Place, "Place", "Place.x is f64, and nan"),
            (Choice, "Choice", "sealed"),
        ],
    )
    def test_what_cannot(self, annotation: Any, shown: str, why: str) -> None:
        fields = {"id": u32, "bad": annotation}
        text = refused(rf"^Pose\.bad: {shown}", policy=LATEST, key=("id", "bad"), fields=fields)
        assert why in text
        assert "keys are u8 to i64" in text

    def test_it_does_not_matter_outside_the_key(self) -> None:
        codec(define(policy=LATEST, key="id", fields={"id": i8, "rest": list[f32], "more": Mutable}))

    def test_an_inherited_key_was_judged_where_it_was_named(self) -> None:
        shape = define(name="Shape", sealed=True, policy=LATEST, key="id", fields={"id": u64})
        define(shape, "Circle", fields={"radius": f32})
        codec(shape)

    @pytest.mark.parametrize("attempt", ["first", "second"])
    def test_a_late_annotation_is_judged_at_the_first_compilation(self, attempt: str) -> None:
        """And again each time, for nothing is compiled."""
        with pytest.raises(
            TypeError, match=r"^Early\.later: Later cannot be in the key of Early: Later is mut"
        ):
            codec(Early)

    def test_so_is_one_inside_the_key(self) -> None:
        with pytest.raises(TypeError, match=r"^EarlyInside\.hidden: .*LaterFloat\.x is f32, and nan"):
            EarlyInside.from_bytes(b"")

    def test_inside_another_class_the_keywords_mean_nothing(self) -> None:
        keyed = define(policy=LATEST, key="id")
        outer = define(name="Outer", fields={"inner": keyed, "many": list[keyed]})
        assert delivery(outer) == Delivery()
        value = outer(keyed(1, 1.0), [keyed(2, 2.0)])
        assert outer.from_bytes(value.to_bytes()) == value
