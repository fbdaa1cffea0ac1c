"""Coverage-guided fuzzing of the decoder: any bytes are a value that encodes again, or a DecodeError.

    python tests/fuzz/fuzz_decode.py -max_total_time=120 [corpus directory] [libFuzzer options]

The first byte of an input selects the type; the rest is the message. `DecodeError` is the only allowed
exception. A decoded value must encode to the bytes that were read, including NaNs, and the reference codec
must agree if it knows the type. Coverage is that of the Python code and of the reference. Build with
``DELI_COM_SANITIZE=1`` to find memory errors, too. Without atheris (``pip install atheris``, Linux, up to
3.13) the inputs are random mutations of the vectors.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

try:
    import atheris
except ImportError:
    atheris = None

if atheris is not None:
    with atheris.instrument_imports(include=["reference_codec"]):
        import reference_codec as reference
else:
    import reference_codec as reference

import vector_types

from deli_com import Codec, codec, errors, u8

TREE: Any = (
    "sealed",
    (("list", ("struct", ("u8",), ("str",))), ("option", ("f32",))),
    (("fixed", ("product", ("bool",), ("i16",)), 3), ("array", ("f64",))),
    (("enum", 3), ("tuple", ("bytes",)), ("list", ("list", ("u16",)))),
    (),
)


class Node(Codec):
    value: u8
    kids: list[Node]
    next: Node | None


# Types that the reference knows, and others that are only encoded again.
KNOWN = [TREE, ("list", ("f32",)), ("str",), ("list", ("str",)), ("option", ("bool",))]
OTHERS = [codec(Node), *(vector_types.codec_of(name) for name in vector_types.TYPES)]


def check(data: bytes) -> None:
    """One input; raises whatever is wrong."""
    if not data:
        return
    which, message = data[0] % (len(KNOWN) + len(OTHERS)), data[1:]
    if which < len(KNOWN):
        tp = KNOWN[which]
        compiled: Any = codec(reference.annotation(tp))
        try:
            expected: Any = reference.decode(tp, message)[1]
        except reference.Malformed as malformed:
            expected = malformed.kind
    else:
        compiled, expected = OTHERS[which - len(KNOWN)], None
    try:
        value, end = compiled.decode(message)
    except errors.DecodeError as error:
        if not 0 <= error.offset <= len(message):
            raise AssertionError(f"offset {error.offset}") from error
        found: Any = type(error).__name__
    else:
        if compiled.to_bytes(value) != message[:end]:
            raise AssertionError("encoding again gives other bytes")
        found = end
    if expected is not None and expected != found:
        raise AssertionError(f"reference: {expected}, found: {found}")


def seeds() -> list[bytes]:
    """The vectors, under every type: a few bytes off one type are often valid for another."""
    raw = [
        bytes.fromhex(case["hex"])
        for name in ("good", "bad")
        for case in vector_types.load(f"wire_{name}.jsonl")
    ]
    return [bytes([i]) + each for i in range(len(KNOWN) + len(OTHERS)) for each in raw]


def mutate_for(seconds: float) -> int:
    """The stand-in for atheris: random changes, cuts and joins of the seeds."""
    rng = random.Random(20261122)
    pool = seeds()
    count = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(1000):
            data = bytearray(rng.choice(pool))
            for _ in range(rng.randrange(4)):
                place = rng.randrange(len(data))
                data[place] = rng.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            if rng.random() < 0.3:
                data += rng.choice(pool)
            if rng.random() < 0.3:
                del data[rng.randrange(1, len(data) + 1) :]
            check(bytes(data))
            count += 1
    return count


def main() -> None:
    limit = next((arg.partition("=")[2] for arg in sys.argv if arg.startswith("-max_total_time=")), "60")
    for data in seeds():
        check(data)
    if atheris is None:
        print(f"atheris is absent: {mutate_for(float(limit))} random inputs passed")
        return
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
