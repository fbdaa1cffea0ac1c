"""`Nanoseconds`: an int on the wire, with a note; what is no moment is refused with a hint. Annotations."""

from __future__ import annotations

import copy
import datetime
import pickle
import struct
import time
from collections.abc import Mapping
from typing import Annotated, Any, NewType

import numpy as np
import pytest

from deli_com import Codec, Nanoseconds, Schema, codec, errors, field, i8, i64, u8, u32, u64

UTC = datetime.UTC
Robot = NewType("Robot", u8)  # type: ignore[valid-newtype]


class Event(Codec, frozen=True):
    at: Nanoseconds
    before: Annotated[Nanoseconds, i64] | None = None
    others: tuple[Nanoseconds, ...] = ()


class Numbers(Codec):
    at: u64
    before: i64 | None
    others: list[u64]


class Keyed(Codec, policy="latest", key="at"):
    at: Nanoseconds


class TestWire:
    def test_ints_go_in_and_come_out(self) -> None:
        sent = Event(5, -3, (1, 2))  # type: ignore[arg-type]
        assert sent.to_bytes() == Numbers(5, -3, [1, 2]).to_bytes()
        read = Event.from_bytes(sent.to_bytes())
        assert read == sent
        assert read.before is not None
        for moment in (read.at, read.before, *read.others):
            assert type(moment) is Nanoseconds
            assert isinstance(moment, int)
        assert read.before.to_datetime() < read.at.to_datetime()

    @pytest.mark.parametrize("value", [0, 2**64 - 1, np.uint64(2**63), np.int32(7), Nanoseconds(9)])
    def test_every_int_that_fits(self, value: Any) -> None:
        assert Event.from_bytes(Event(value).to_bytes()).at == int(value)

    def test_out_of_range(self) -> None:
        with pytest.raises(errors.EncodeError, match=r"Event.at: -1 does not fit u64"):
            Event(Nanoseconds(-1)).to_bytes()
        with pytest.raises(errors.EncodeError, match="does not fit i64"):
            Event(Nanoseconds(1), Nanoseconds(2**63)).to_bytes()

    def test_a_datetime_is_refused_with_a_hint(self) -> None:
        with pytest.raises(errors.EncodeError, match=r"Event.at: .*Nanoseconds\.from_datetime"):
            Event(datetime.datetime.now(UTC)).to_bytes()  # type: ignore[arg-type]
        with pytest.raises(errors.EncodeError, match=r"Event.others\[0\]: .*Nanoseconds\.from_datetime"):
            Event(1, None, (datetime.datetime.now(UTC),)).to_bytes()  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [1.5, True, None, "now", np.bool_(True)])
    def test_what_is_no_int_is_refused(self, value: Any) -> None:
        with pytest.raises(errors.EncodeError, match=r"Event.at: expected u64 nanoseconds, got"):
            Event(value).to_bytes()

    def test_short(self) -> None:
        with pytest.raises(errors.UnexpectedEof):
            Event.from_bytes(bytes(7))

    def test_values_that_were_decoded_are_not_written_over(self) -> None:
        first = [Event.from_bytes(Event(Nanoseconds(10**18 + i)).to_bytes()).at for i in range(100)]
        assert first == [10**18 + i for i in range(100)]

    def test_as_a_key(self) -> None:
        assert codec(Keyed).from_bytes(struct.pack("<Q", 3)).at == 3


class TestMoments:
    def test_now(self) -> None:
        before = time.time_ns()
        now = Nanoseconds.now()
        assert type(now) is Nanoseconds
        assert before <= now <= time.time_ns()

    def test_to_datetime_and_back(self) -> None:
        for text in (
            "2023-11-14T22:13:20.123456+00:00",
            "1969-12-31T23:59:59.999999+00:00",
            "2026-01-01T00:00:00+02:00",
        ):
            moment = datetime.datetime.fromisoformat(text)
            made = Nanoseconds.from_datetime(moment)
            assert made.to_datetime() == moment
            assert made.to_datetime().tzinfo is UTC
        assert Nanoseconds(1_999).to_datetime().microsecond == 1
        assert Nanoseconds(-1).to_datetime() < datetime.datetime(1970, 1, 1, tzinfo=UTC)
        for most in (2**64 - 1, -(2**63)):
            Nanoseconds(most).to_datetime()

    def test_a_datetime_without_a_zone_is_no_moment(self) -> None:
        with pytest.raises(ValueError, match="time zone"):
            Nanoseconds.from_datetime(datetime.datetime(2026, 1, 1))
        with pytest.raises(TypeError, match="got date"):
            Nanoseconds.from_datetime(datetime.date(2026, 1, 1))  # type: ignore[arg-type]

    def test_it_is_an_int(self) -> None:
        moment = Nanoseconds(7)
        assert moment == 7 == pickle.loads(pickle.dumps(moment)) == copy.copy(moment)
        assert type(pickle.loads(pickle.dumps(moment))) is Nanoseconds
        assert type(moment - 2) is int
        assert {7: "x"}[moment] == "x"
        assert not hasattr(moment, "__dict__")


class TestSchema:
    def test_note_and_loading(self) -> None:
        text = (
            "deli 1\nroot Event\nstruct Event\n at u64 @nanoseconds\n before i64? @nanoseconds\n"
            " others [u64] @nanoseconds\n"
        )
        assert codec(Event).schema.text == text
        made = codec(Schema.parse(text).load())
        assert made.schema.text == text
        read = made.from_bytes(Event(Nanoseconds(5), Nanoseconds(-3), (Nanoseconds(1),)).to_bytes())
        assert [type(moment) for moment in (read.at, read.before, read.others[0])] == [Nanoseconds] * 3

    def test_a_note_that_fits_nothing_means_nothing(self) -> None:
        text = (
            "deli 1\nroot A\nstruct A\n x u32 @nanoseconds\n y str @nanoseconds\n z (u64,u8) @nanoseconds\n"
        )
        made = codec(Schema.parse(text).load())
        assert made.schema.text == text
        assert type(made.from_bytes(made.to_bytes(made.type(1, "", (2, 3)))).x) is int

    def test_a_reader_of_narrower_ints(self) -> None:
        class Short(Codec):
            others: list[u32]
            at: u32
            before: i8

        read = codec(Event).reading(codec(Short).schema).from_bytes(Short([1], 2, -3).to_bytes())
        assert read == Event(Nanoseconds(2), Nanoseconds(-3), (Nanoseconds(1),))
        assert [type(moment) for moment in (read.at, read.before, *read.others)] == [Nanoseconds] * 3


class TestAnnotations:
    def test_annotated_and_newtype_are_their_base(self) -> None:
        for tp, base in (
            (Annotated[u32, "metres"], u32),
            (Annotated[list[Robot], "any", 3], list[u8]),
            (Robot, u8),
            (Annotated[Nanoseconds, "doc"], u64),
            (Annotated[str | None, object()], str | None),
            (NewType("Text", str), str),
        ):
            assert codec(tp).schema == codec(base).schema

    def test_other_kinds_of_moments(self) -> None:
        with pytest.raises(TypeError, match="u64 or i64"):
            codec(Annotated[Nanoseconds, u8])
        with pytest.raises(TypeError, match="write Nanoseconds"):
            codec(datetime.datetime)

    @pytest.mark.parametrize(
        ("tp", "words"),
        [
            (dict[str, u8], r"list\[tuple\[str, u8\]\]"),
            (Mapping[str, list[u8]], r"list\[tuple\[str, list\[u8\]\]\]"),
            (dict, r"list\[tuple\[K, V\]\]"),
        ],
    )
    def test_maps(self, tp: Any, words: str) -> None:
        with pytest.raises(TypeError, match=f"the wire has no maps: write a list of pairs, {words}"):
            codec(tp)

    def test_a_map_as_a_value(self) -> None:
        with pytest.raises(errors.EncodeError, match=r"list\(x.items\(\)\) makes pairs"):
            codec(list[tuple[str, u8]]).to_bytes({"a": 1})  # type: ignore[arg-type]

    def test_a_default_of_none_is_checked_when_it_is_sent(self) -> None:
        class Late(Codec):
            n: u8 = field(default=None)

        with pytest.raises(errors.EncodeError, match="expected u8, got NoneType"):
            Late().to_bytes()
