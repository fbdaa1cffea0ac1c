"""Coverage-guided fuzzing of schema texts: any bytes are a schema that can be loaded, or a ValueError.

    python tests/fuzz/fuzz_schema.py -max_total_time=120 [corpus directory] [libFuzzer options]

`Schema.parse`, `Schema.load` and the parser of control texts raise only ValueError. A parsed schema has
exactly its text. A loaded schema is equal to its source. `reading` gives a codec or `SchemaMismatch`, and
that codec decodes any bytes to a value or raises `DecodeError`. Without atheris the inputs are random
mutations, by lines and words, of valid schema texts.
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
    with atheris.instrument_imports(include=["deli_com.schema"]):
        from deli_com.schema import control, load, measure, parse, resolve  # noqa: F401

from random_schemas import GOLDEN
from schema_oracle import Generator

from deli_com import Schema, SchemaMismatch, codec, errors
from deli_com.schema import control
from deli_com.schema.text import render

READERS: list[Any] = [
    codec(Schema.parse(GOLDEN).load()),
    *(codec(made.classes(made.reader())) for made in map(Generator, range(6))),
]
WORDS = [
    *(
        "u8",
        "f64",
        "bool",
        "str",
        "bytes",
        "[u8]",
        "[u16;3]",
        "(u8,f32)",
        "()",
        "T1",
        "T2?",
        "u8??",
        "x",
        "__x__",
    ),
    *(
        "decode",
        "mro",
        "@latest",
        "@latest(a)",
        "@retain",
        "@skip",
        "@max_age(0.2)",
        "struct",
        "sealed",
        "enum",
    ),
    *("root", "deli", "0", "1", "65536", "[u8;16777217]", "_", "a" * 129, "\x00", "é"),
]


def check(data: bytes) -> str:
    """One input; raises whatever is wrong. What became of it."""
    try:
        control.parse(control.PREFIX + data)
    except ValueError:
        pass
    text = data.decode("utf-8", "replace")
    try:
        schema = Schema.parse(text)
    except ValueError:
        return "no schema"
    if render(schema.tree) != text or Schema.parse(schema.text) != schema or len(schema.hash) != 32:
        raise AssertionError("another text than the one that was read")
    message = bytes(data[:64])
    for own in READERS:
        try:
            reading = own.reading(schema)
        except SchemaMismatch as mismatch:
            if not mismatch.differences:
                raise AssertionError("a mismatch without a difference") from mismatch
            continue
        try:
            reading.from_bytes(message)
        except errors.DecodeError:
            pass
    try:
        loaded = codec(schema.load())
    except ValueError:
        return "not loaded"
    if loaded.schema != schema:
        raise AssertionError(f"loaded classes have the schema {loaded.schema.text!r}")
    try:
        value, end = loaded.decode(message)
    except errors.DecodeError:
        return "loaded"
    if loaded.to_bytes(value) != message[:end]:
        raise AssertionError("encoding again gives other bytes")
    return "loaded"


def seeds() -> list[bytes]:
    return [GOLDEN.encode(), *(render(made.reader().tree).encode() for made in map(Generator, range(60)))]


def mutated(rng: random.Random, pool: list[bytes], text: bytes | None = None) -> bytes:
    """A text, of the pool if none is given, with a few lines or words changed."""
    lines = (text or rng.choice(pool)).decode("utf-8", "replace").split("\n")
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        action = rng.randrange(6)
        if action == 0:
            lines.insert(at, rng.choice(rng.choice(pool).decode().split("\n")))
        elif action == 1 and len(lines) > 1:
            del lines[at]
        elif action == 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            words = lines[at].split(" ")
            place = rng.randrange(len(words) + 1)
            words[place : place + (action > 3)] = [rng.choice(WORDS)]
            lines[at] = " ".join(words)
    changed = "\n".join(lines).encode()
    if rng.random() < 0.1:
        changed = changed[: rng.randrange(len(changed) + 1)]
    return changed


def fuzz(seed: int, cases: int) -> dict[str, int]:
    """So many mutations, the same every time; how many became what."""
    rng = random.Random(seed)
    pool = seeds()
    found: dict[str, int] = {}
    for data in [*pool, *(mutated(rng, pool) for _ in range(cases - len(pool)))]:
        became = check(data)
        found[became] = found.get(became, 0) + 1
    return found


def main() -> None:
    limit = next((arg.partition("=")[2] for arg in sys.argv if arg.startswith("-max_total_time=")), "60")
    print(fuzz(1, 500))
    if atheris is None:
        end, count = time.monotonic() + float(limit), 0
        while time.monotonic() < end:
            count += sum(fuzz(count + 2, 500).values())
        print(f"atheris is absent: {count} random texts passed")
        return
    pool = seeds()

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        """As libFuzzer asks for it: bytes alone would hardly ever begin as a schema does."""
        rng = random.Random(seed)
        return mutated(rng, pool, None if len(data) < 8 or rng.random() < 0.05 else data)[:size]

    atheris.Setup(sys.argv, lambda data: check(data) and None, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
