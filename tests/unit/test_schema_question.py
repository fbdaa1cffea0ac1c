"""`Question`: how the answers of a server are processed, valid ones and others."""

from __future__ import annotations

import pytest
from random_schemas import GOLDEN

from deli_com.schema.control import ASK, NOTHING, Announcement, Gap, Hello, Live, Refused, SchemaText, render
from deli_com.schema.question import Question
from deli_com.schema.schema import Schema

DOWN = Schema.parse(GOLDEN)
UP = Schema.parse("deli 1\nroot u8\n")
BOTH = Announcement(DOWN.hash, UP.hash)


def text(direction: str, schema: Schema, digest: str | None = None) -> bytes:
    return render(SchemaText(direction, digest or schema.hash, schema.text))


def test_both_are_known_once_both_were_told() -> None:
    question = Question()
    assert question.hello == Announcement(ASK, ASK)
    question.answered(BOTH)
    question.handle(text("up", UP))
    assert not question.is_settled
    for other in (render(Live()), render(Gap("A", 1, 0)), b"deli 1 later", b"anything"):
        question.handle(other)
    question.handle(text("down", DOWN))
    assert question.is_settled and question.schemas == (DOWN, UP)


def test_the_hashes_may_come_as_a_text() -> None:
    question = Question()
    question.handle(render(Hello(Announcement(DOWN.hash, NOTHING))))
    question.handle(text("down", DOWN))
    assert question.is_settled and question.schemas == (DOWN, None)


@pytest.mark.parametrize(
    ("says", "told", "words"),
    [
        (BOTH, text("down", UP), "another hash than was announced"),
        (BOTH, text("down", UP, DOWN.hash), "another hash than was announced"),
        (BOTH, text("down", DOWN, UP.hash), "another hash than was announced"),
        (None, text("down", DOWN), "another hash than was announced"),
        (Announcement(DOWN.hash, NOTHING), text("up", UP), "another hash than was announced"),
        (BOTH, render(Refused(("no", "really"))), "it refuses: no; really"),
        (BOTH, render(Hello(BOTH)), "a second answer"),
        (None, render(Hello(Announcement(ASK, NOTHING))), "without hashes"),
        (None, render(Hello(Announcement(DOWN.hash, ASK))), "without hashes"),
        (BOTH, b"deli 1 schema down x", "expected schema"),
        (BOTH, b"deli 1 schema down " + DOWN.hash.encode() + b"\nno schema\n", "begins with the line"),
    ],
)
def test_what_makes_no_sense_is_a_value_error(says: Announcement | None, told: bytes, words: str) -> None:
    question = Question()
    if says is not None:
        question.answered(says)
    with pytest.raises(ValueError, match=words):
        question.handle(told)
    assert not question.is_settled


def test_an_answer_that_asks_back_is_none() -> None:
    with pytest.raises(ValueError, match="without hashes"):
        Question().answered(Announcement(ASK, NOTHING))
