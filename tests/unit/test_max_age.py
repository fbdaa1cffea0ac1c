"""`max_age` of a class: what may be said, how it is inherited, its note; and the inbox that follows it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from deli_com import Codec, Schema, codec, gen, u8, u32
from deli_com.types.delivery import delivery

AGE = 0.02


class Base(Codec, sealed=True, max_age=0.2):
    number: u32


class Own(Base, max_age=AGE):
    pass


class Skipped(Base, policy="skip"):
    pass


class Newest(Base, policy="latest", key="robot", retain=True, max_age=AGE):
    robot: u8 = 0


class Plain(Base):
    pass


class Alone(Codec, max_age=AGE):
    number: u32


class Mixed(Codec, sealed=True):
    number: u32


class Old(Mixed, max_age=AGE):
    pass


class OldList(Mixed, max_age=AGE):
    """It is decoded when it comes."""

    items: list[u32]


class OldNewest(Mixed, policy="latest", key="robot", max_age=AGE):
    robot: u8


class OldWindow(Mixed, policy="skip", max_age=AGE):
    pass


class Sure(Mixed):
    pass


class TestDeclaration:
    def test_it_goes_with_every_policy_and_is_inherited(self) -> None:
        assert [delivery(cls).max_age for cls in (Base, Own, Skipped, Newest, Plain, Alone)] == [
            0.2, AGE, 0.2, AGE, 0.2, AGE,
        ]  # fmt: skip
        assert delivery(Skipped).policy == "skip"
        assert delivery(Plain).policy is None

    @pytest.mark.parametrize("age", [0, -1, 0.0001, 1e9, float("nan"), float("inf"), True, "1", (1,)])
    def test_what_is_no_age(self, age: Any) -> None:
        with pytest.raises(TypeError, match="max_age is a number of seconds"):

            class _Bad(Codec, max_age=age):
                pass

    def test_slips_are_told(self) -> None:
        with pytest.raises(TypeError, match="did you mean 'max_age'"):

            class _Bad(Codec, maxage=1):  # type: ignore[call-arg]
                pass


class TestSchema:
    def test_the_note(self) -> None:
        text = codec(Base).schema.text
        assert text == (
            "deli 1\nroot Base\nsealed Base @max_age(0.2)\n 0 Own @max_age(0.02)\n  number u32\n"
            " 1 Skipped @skip @max_age(0.2)\n  number u32\n 2 Newest @latest(robot) @retain @max_age(0.02)\n"
            "  number u32\n  robot u8\n 3 Plain\n  number u32\n"
        )
        schema = Schema.parse(text)
        assert codec(schema.load()).schema.text == text
        for cls in (Own, Skipped, Newest, Plain):
            assert delivery(schema.types[cls.__name__]) == delivery(cls)
        assert (
            "@max_age(5)\n" in codec(type(Codec)("A", (Codec,), {"__module__": "m"}, max_age=5)).schema.text
        )

    @pytest.mark.parametrize("args", ["", "(a)", "(1,2)", "(-1)", "(1e30)"])
    def test_a_note_that_makes_no_sense(self, args: str) -> None:
        with pytest.raises(ValueError, match="max_age"):
            Schema.parse(f"deli 1\nroot A\nstruct A @max_age{args}\n x u8\n").load()

    def test_generated_classes_have_it(self) -> None:
        text = gen.python(codec(Base).schema)
        assert "max_age=0.02" in text
        assert "max_age=0.2" in text


def push(inbox: Any, value: Mixed) -> None:
    data = codec(Mixed).to_bytes(value)
    if inbox.push_plain_(data, None) is None:
        inbox.push_(value, None, len(data))


def new(probe: Any, **bounds: int) -> Any:
    return probe.ProbePolicyInbox(asyncio.get_running_loop(), codec(Mixed), **bounds)


def grow_old() -> None:
    """Let time pass, and no turn of the loop."""
    time.sleep(2 * AGE)


OLD = (Old(1), OldList(2, [3]), OldNewest(4, 5), OldWindow(6))


class TestInbox:
    async def test_what_is_too_old_is_left_out_and_counted(self, probe: Any) -> None:
        inbox = new(probe)
        for value in OLD:
            push(inbox, value)
        push(inbox, Sure(7))
        grow_old()
        assert await inbox.recv() == Sure(7)
        assert inbox.skipped == len(OLD)
        assert inbox.superseded == 0
        assert inbox.held_bytes == 0

    async def test_a_program_waits_on_where_all_is_too_old(self, probe: Any) -> None:
        inbox = new(probe)
        for value in OLD:
            push(inbox, value)
        grow_old()
        waiting = asyncio.ensure_future(inbox.recv())
        await asyncio.sleep(0)
        assert not waiting.done()
        push(inbox, Sure(8))
        assert await waiting == Sure(8)

    async def test_many_at_once(self, probe: Any) -> None:
        inbox = new(probe)
        push(inbox, Sure(1))
        push(inbox, Old(2))
        push(inbox, Sure(3))
        grow_old()
        assert await inbox.recv_many(10) == [Sure(1), Sure(3)]
        assert inbox.skipped == 1

    async def test_a_program_that_takes_nothing_leaves_room(self, probe: Any) -> None:
        """A full inbox of what is too old does not stop what comes."""
        inbox = new(probe, max_count=4)
        waiting = asyncio.ensure_future(inbox.recv())
        await asyncio.sleep(0)
        push(inbox, Sure(0))
        assert await waiting == Sure(0)
        for _ in range(4):
            push(inbox, Old(1))
        grow_old()
        await asyncio.sleep(0)  # a turn has one time
        push(inbox, Sure(2))
        assert inbox.skipped == 4
        assert await inbox.recv() == Sure(2)
