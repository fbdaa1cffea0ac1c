"""schema/control.py: every form of a control text, valid ones and every kind of invalid one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deli_com.schema import control
from deli_com.schema.control import (
    MAX_BYTES,
    PREFIX,
    Announcement,
    Gap,
    Hello,
    Live,
    Mark,
    Refused,
    SchemaText,
    Seen,
    parse,
    parse_header,
    parse_query,
    reason_of,
    render,
    render_header,
    render_query,
)

A = "0123456789abcdef" * 2
B = "f" * 32


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"1 down={A} up={B}", Announcement(A, B)),
        (f"1 down={A} up=-", Announcement(A, "-")),
        ("1 down=? up=?", Announcement("?", "?")),
        (f"1  up=-   down={A.upper()}", Announcement(A, "-")),
        (f"1 down={A} up=- more=1", Announcement(A, "-")),
        (f"2 down={A} up={B}", None),
        ("", None),
        ("11 x", None),
    ],
)
def test_a_header_says_both_directions_or_is_of_another_version(value: str, expected: Announcement | None):
    assert parse_header(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "1",
        f"1 down={A}",
        f"1 up={A}",
        f"1 down={A} down={A} up=-",
        f"1 down=- up={A}",
        f"1 down={A[:-1]} up=-",
        f"1 down={A}0 up=-",
        f"1 down={'g' * 32} up=-",
        f"1 down={A} up=",
        f"1 down={A} up",
        f"1 down {A} up {A}",
    ],
)
def test_a_malformed_header_of_this_version_is_an_error(value: str):
    with pytest.raises(ValueError):
        parse_header(value)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"deli=1.{A}.{B}", Announcement(A, B)),
        (f"token=x&deli=1.{A}.-&more", Announcement(A, "-")),
        ("deli=1.%3F.?", Announcement("?", "?")),
        ("", None),
        ("token=deli", None),
        ("deli=2.x", None),
        ("delicious=1.x.y", None),
        ("deli", None),
    ],
)
def test_a_query_says_the_same(query: str, expected: Announcement | None):
    assert parse_query(query) == expected


@pytest.mark.parametrize(
    "query", ["deli=1", "deli=1.x", f"deli=1.{A}", f"deli=1.-.{A}", f"deli=1.{A}.{A}.{A}"]
)
def test_a_malformed_parameter_of_this_version_is_an_error(query: str):
    with pytest.raises(ValueError):
        parse_query(query)


TEXTS = [
    (Hello(Announcement(A, "-")), f"deli 1 hello down={A} up=-"),
    (Hello(Announcement("?", "?")), "deli 1 hello down=? up=?"),
    (SchemaText("down", A, "deli 1\nroot é\n"), f"deli 1 schema down {A}\ndeli 1\nroot é\n"),
    (SchemaText("up", B, ""), f"deli 1 schema up {B}\n"),
    (Refused(("a", "b c")), "deli 1 refused\na\nb c"),
    (Live(), "deli 1 live"),
    (Gap("Pose", 3, 4), "deli 1 gap Pose skipped=3 superseded=4"),
    (Gap("*", reason="upstream"), "deli 1 gap * reason=upstream"),
    (Gap("*", reason="upstream", seconds=1.5), "deli 1 gap * reason=upstream seconds=1.500"),
    (Mark("0123456789abcdef"), "deli 1 mark 0123456789abcdef"),
    (Seen("0123456789abcdef"), "deli 1 seen 0123456789abcdef"),
]


@pytest.mark.parametrize(("told", "text"), TEXTS)
def test_each_text_has_these_bytes_and_is_read_back(told: control.Control, text: str):
    assert render(told).decode() == text
    assert parse(text.encode()) == told


@pytest.mark.parametrize(
    "text",
    ["deli 1 ", "deli 1 later what=ever", "deli 1 live2", "deli 1 Hello", "deli 1  live", "deli 1 \nx"],
)
def test_a_line_that_this_version_does_not_know_is_none(text: str):
    assert parse(text.encode()) is None


@pytest.mark.parametrize(
    "data",
    [
        b"deli 1 hello",
        b"deli 1 hello down=x up=y",
        b"deli 1 schema",
        b"deli 1 schema sideways " + A.encode() + b"\n",
        b"deli 1 schema down " + A.upper().encode() + b"\n",
        b"deli 1 schema down ?\n",
        b"deli 1 schema down " + A.encode() + b"\n\xff",
        b"deli 1 hello down=\xff up=-",
        b"deli 1 gap",
        b"deli 1 gap 1x skipped=1",
        b"deli 1 gap Pose skipped=-1 superseded=0",
        b"deli 1 gap Pose skipped=" + b"9" * 5000,
        b"deli 1 gap * seconds=1e999",
        b"deli 1 mark 1",
        b"deli 1 mark 0123456789ABCDEF",
        b"deli 1 seen ",
    ],
)
def test_a_malformed_text_is_an_error_whose_words_fit_a_close_frame(data: bytes):
    with pytest.raises(ValueError) as caught:
        parse(data)
    assert len(reason_of(str(caught.value)).encode()) <= 123


def test_a_text_has_at_most_256_kib():
    room = MAX_BYTES - len(PREFIX) - len(f"schema down {A}\n")
    told = SchemaText("down", A, "x" * room)
    assert parse(render(told)) == told
    longer = SchemaText("down", A, "x" * (room + 1))
    with pytest.raises(ValueError, match="over the limit of 262144"):
        render(longer)
    with pytest.raises(ValueError, match="over the limit of 262144"):
        parse(render(told) + b"x")


def test_as_many_whole_differences_are_sent_as_fit_each_on_one_line():
    told = parse(render(Refused(("one\ntwo", *["ä" * 1000] * 1000))))
    assert isinstance(told, Refused)
    assert told.differences[0] == "one two"
    assert told.differences[1] == "ä" * 1000
    assert 30 <= len(told.differences) <= 33


def test_a_reason_is_cut_between_characters():
    assert reason_of("ä" * 100) == "ä" * 61
    assert reason_of("short") == "short"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_text_or_unknown_or_a_value_error(data: bytes):
    for word in (b"", b"hello ", b"schema ", b"refused", b"live", b"gap ", b"mark ", b"seen "):
        try:
            parse(PREFIX + word + data)
        except ValueError:
            pass


@given(st.text(max_size=100))
def test_any_header_and_query_is_an_announcement_or_none_or_a_value_error(text: str):
    for value in (text, "1 " + text):
        try:
            parse_header(value)
        except ValueError:
            pass
    for query in (text, "deli=" + text, "deli=1." + text):
        try:
            parse_query(query)
        except ValueError:
            pass


def test_the_bytes_in_the_documentation_are_those_of_a_peer():
    text = (Path(__file__).resolve().parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text[text.index("## 10. ") :], re.M))
    says = Announcement("625ec7b3256b865c2f1c8a71dc03790d", "-")
    assert shown["request header"] == f"`{control.HEADER}: {render_header(says)}`"
    assert shown["the same as a query"] == f"`?{render_query(says)}`"

    def raw(name: str) -> bytes:
        return bytes.fromhex("".join(re.findall("`([0-9a-f]+)`", shown[name])))

    def framed(data: bytes) -> bytes:
        return b"\xff\xff\xff\xff" + len(data).to_bytes(4, "little") + data

    live = render(Live())
    assert raw("the same over TCP") == framed(render(Hello(says)))
    assert raw("`deli 1 live`, WebSocket") == bytes([0x81, len(live)]) + live
    assert raw("`deli 1 live`, TCP") == framed(live)


def test_what_is_rendered_for_a_request_is_read_back():
    for says in (Announcement(A, "-"), Announcement("?", "?"), Announcement(A, B)):
        assert parse_header(render_header(says)) == says
        assert parse_query(render_query(says)) == says
