"""The vectors printed by the Rust crates hold in both directions, including errors."""

from __future__ import annotations

from typing import Any

import pytest
from vector_types import codec_of, load, same, value_of

from deli_com import errors

GOOD = load("wire_good.jsonl")
BAD = load("wire_bad.jsonl")
CLASSES = {
    "UnexpectedEof": errors.UnexpectedEof,
    "InvalidUtf8": errors.InvalidUtf8,
    "InvalidBool": errors.InvalidBool,
    "InvalidVariant": errors.InvalidVariant,
}


def _name(case: dict[str, Any]) -> str:
    return f"{case['type']}-{case['hex'][:24] or 'empty'}"


@pytest.mark.parametrize("case", GOOD, ids=_name)
class TestGood:
    def test_encode_gives_the_bytes(self, case: dict[str, Any]) -> None:
        """Encoding the printed value gives the printed bytes."""
        assert codec_of(case["type"]).to_bytes(value_of(case["type"], case["value"])).hex() == case["hex"]

    def test_decode_gives_the_value(self, case: dict[str, Any]) -> None:
        """Decoding the printed bytes gives the printed value, and uses all of them."""
        decoded = codec_of(case["type"]).from_bytes(bytes.fromhex(case["hex"]), strict=True)
        assert same(decoded, value_of(case["type"], case["value"]))

    def test_every_prefix_is_short(self, case: dict[str, Any]) -> None:
        """Cut anywhere, the bytes are an UnexpectedEof within the input."""
        data = bytes.fromhex(case["hex"])
        for size in range(len(data)):
            with pytest.raises(errors.UnexpectedEof) as caught:
                codec_of(case["type"]).from_bytes(data[:size])
            assert 0 <= caught.value.offset <= size

    def test_flipped_bytes_decode_or_raise(self, case: dict[str, Any]) -> None:
        """Any byte replaced by another gives a value that encodes to these bytes again, or a DecodeError."""
        codec = codec_of(case["type"])
        data = bytes.fromhex(case["hex"])
        for place in range(len(data)):
            for flip in (0x01, 0x80, 0xFF):
                flipped = bytearray(data)
                flipped[place] ^= flip
                try:
                    value, end = codec.decode(bytes(flipped))
                except errors.DecodeError as error:
                    offset = error.offset
                else:
                    offset = end
                    assert codec.to_bytes(value) == flipped[:end]
                assert 0 <= offset <= len(data)


@pytest.mark.parametrize("case", BAD, ids=_name)
def test_bad_vector_fails_as_printed(case: dict[str, Any]) -> None:
    """Class, text and carried number of the error are those of the Rust crates."""
    codec, data = codec_of(case["type"]), bytes.fromhex(case["hex"])
    if case["error"] is None:
        codec.from_bytes(data)
        return
    name, _, number = case["error"].rstrip(")").partition("(")
    with pytest.raises(errors.DecodeError) as caught:
        codec.from_bytes(data)
    error = caught.value
    assert type(error) is CLASSES[name]
    assert error.detail == case["display"]
    if number:
        assert (error.value if isinstance(error, errors.InvalidBool) else error.index) == int(number)
