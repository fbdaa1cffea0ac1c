"""The generic decoder in TypeScript reads another writer's values exactly as Python does."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import ts_program
from random_schemas import GOLDEN, Values
from schema_oracle import Generator, encode
from toolchains import share, tool

from deli_com import DecodeError, Schema, SchemaMismatch, UnknownVariant, codec
from deli_com.schema.text import render

RUN = """
import { readFileSync, writeFileSync } from "node:fs";
import { shown } from "./driver.mjs";
import { Generic, SchemaError, DecodeError } from "./s0.mjs";
const found = JSON.parse(readFileSync("pairs.json", "utf8")).map(({ plan, reader, writer, inputs }) => {
  let read;
  try {
    read = new Generic(reader).reading(new Generic(writer));
  } catch (e) {
    if (!(e instanceof SchemaError)) throw e;
    return e.differences;
  }
  return inputs.map((text) => {
    try {
      const value = read(Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16)));
      return value === undefined ? "unknown" : shown(plan, plan.root, value);
    } catch (e) {
      if (!(e instanceof DecodeError)) throw e;
      return `${e.name} ${e.offset}`;
    }
  });
});
writeFileSync("output.json", JSON.stringify(found));
"""


def pair(seed: int) -> tuple[dict[str, Any], list[str] | None]:
    """One pair of schemas, inputs, and what Python makes of each; None: refused; []: not compared."""
    made = Generator(seed)
    tree = made.reader()
    writer = made.mutated(tree)
    # A schema text has neither defaults nor old names, so the type made from it has none, either.
    reader = Schema.parse(render(tree.tree))
    there = Schema.parse(render(writer))
    inputs, found = [], []
    for _ in range(3):
        data = encode(writer.root, made.value(writer.root, writer), writer)
        inputs += [data, data[: made.random.randint(0, len(data))]]
    values = Values(reader)
    plan = {
        "plan": ts_program.plan(reader, ""),
        "reader": reader.text,
        "writer": there.text,
        "inputs": [data.hex() for data in inputs],
    }
    try:
        reading = codec(reader.load()).reading(there)
    except SchemaMismatch as error:
        # TypeScript decodes elements without bytes, of which a list has at most 65,536.
        lax = all("elements without bytes" in line for line in error.differences)
        return plan, [] if lax else None
    for data in inputs:
        try:
            found.append(values.shown(reading.from_bytes(data)))
        except UnknownVariant:
            found.append("unknown")
        except DecodeError as error:
            found.append(f"{type(error).__name__} {error.offset}")
    return plan, found


TEXTS = """
import { readFileSync, writeFileSync } from "node:fs";
import { Generic, SchemaError } from "./s0.mjs";
const found = JSON.parse(readFileSync("texts.json", "utf8")).map((text) => {
  try {
    new Generic(text);
    return true;
  } catch (e) {
    if (!(e instanceof SchemaError)) throw e;
    return false;
  }
});
writeFileSync("output.json", JSON.stringify(found));
"""
NOTED = """\
deli 1
root Message
sealed Message @retain
 0 Alarm @max_age(0.2) @x(-1.5e+3,a,_b)
  code u32 @nanoseconds
 1 Pose @latest(robot) @retain
  at (Point,[Point;0],bool?)
  trace [f32]
struct Point @other
 x f32
 next Message? @shape(height,width,3)
"""
WORD_LINES = """
u8 f64 bool str bytes [u8] [u16;3] (u8,f32) () T1 T2? u8?? x __x__ __ ___ _ @latest @latest(a) @x() @x(1,b)
@x(1.) @x(.5) @x(1e5) @x(1e55555) @x(a,) @__x__ struct sealed enum root deli 0 1 65536 [u8;16777217] [u8;01]
[u16;16777216] [[u64;16777216];65536] [[u64;16777216];8192] (u8,) (,u8) ((u8)) [T1;0] [u8;] ] ) ? é
"""
WORDS = [*WORD_LINES.split(), "\x00", "\t", "\r", "\x0b"]


def changed(rng: random.Random, pool: list[str]) -> str:
    """A text of the pool with a few lines, words or letters changed."""
    lines = rng.choice(pool).split("\n")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        action = rng.randrange(7)
        if action == 0:
            lines.insert(at, rng.choice(rng.choice(pool).split("\n")))
        elif action == 1 and len(lines) > 1:
            del lines[at]
        elif action == 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif action == 3:
            place = rng.randrange(len(lines[at]) + 1)
            letters = rng.choice(" ?[](),;@_0aZ\n") if rng.random() < 0.7 else ""
            lines[at] = lines[at][:place] + letters + lines[at][place + rng.randrange(2) :]
        else:
            words = lines[at].split(" ")
            place = rng.randrange(len(words) + 1)
            words[place : place + (action > 4)] = [rng.choice(WORDS)]
            lines[at] = " ".join(words)
    return "\n".join(lines)


def edges() -> list[str]:
    """Texts at each limit, and past it."""
    found = []
    for count in (4096, 4097):
        chain = "".join(f"struct T{i}\n x T{i + 1}\n" for i in range(count - 1))
        found.append(f"deli 1\nroot T0\n{chain}struct T{count - 1}\n")
    for count in (65536, 65537):
        fields = "".join(f" f{i:x} u8\n" for i in range(count // 4))
        found.append(
            "deli 1\nroot (A,B,C,D)\n"
            + "".join(f"struct {name}\n{fields}" for name in "ABC")
            + f"struct D\n{fields}{' z u8' + chr(10) if count % 4 else ''}"
        )
    for depth in (199, 200, 201):
        found.append(f"deli 1\nroot {'[' * depth}u16{']' * depth}\n")
        found.append(f"deli 1\nroot {'[' * (depth - 1)}u16?{']' * (depth - 1)}\n")
    for size in (262144, 262145):
        notes = " @a" * 87375
        text = f"deli 1\nroot A\nstruct A{notes}\n"
        found.append(text[:-1] + " @" + "b" * (size - len(text) - 2) + "\n")
        found.append(text + "".join(f" f{i} u8\n" for i in range(300)))
    for length in (127, 128, 129):
        name = "a" * length
        found.append(f"deli 1\nroot {name}\nstruct {name}\n {name} u8 @{name}({name})\n")
    return found


def test_the_same_texts_are_refused(tmp_path: Path, schemas: list[Schema]) -> None:
    """`Generic` takes exactly the texts that `Schema.parse` takes."""
    rng = random.Random(5)
    pool = [NOTED, *(schema.text for schema in schemas if len(schema.text) < 2000)]
    texts = [*edges(), *pool, *(changed(rng, pool) for _ in range(share(20000, 3000)))]

    def taken(text: str) -> bool:
        try:
            Schema.parse(text)
        except ValueError:
            return False
        return True

    expected = [taken(text) for text in texts]
    ts_program.write(tmp_path, [Schema.parse(GOLDEN)])
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    (tmp_path / "run.mjs").write_text(TEXTS)
    subprocess.run([tool("node"), "run.mjs"], cwd=tmp_path, check=True)
    output = json.loads((tmp_path / "output.json").read_text())
    lax = [text for text, mine, theirs in zip(texts, output, expected, strict=True) if mine > theirs]
    strict = [text for text, mine, theirs in zip(texts, output, expected, strict=True) if mine < theirs]
    assert ([text[:500] for text in lax[:3]], [text[:500] for text in strict[:3]]) == ([], [])
    assert len(texts) // 10 < sum(expected) < len(texts) * 9 // 10


@pytest.mark.timeout(900)
def test_another_writer_is_read_as_python_reads_it(tmp_path: Path) -> None:
    pairs = []
    for seed in range(share(5000, 400)):
        with contextlib.suppress(RecursionError):  # values of recursive types, at random, may not end
            pairs.append(pair(seed))
    ts_program.write(tmp_path, [Schema.parse(GOLDEN)])
    (tmp_path / "pairs.json").write_text(json.dumps([plan for plan, _ in pairs]))
    (tmp_path / "run.mjs").write_text(RUN)
    subprocess.run([tool("node"), "run.mjs"], cwd=tmp_path, check=True)
    output = json.loads((tmp_path / "output.json").read_text())
    refused = 0
    for (plan, expected), got in zip(pairs, output, strict=True):
        if expected is None:
            refused += 1
            assert got and all(" here" in line or "there" in line for line in got), plan["reader"]
        else:
            assert not expected or got == expected, f"{plan['reader']}\n{plan['writer']}\n{got}\n{expected}"
    assert 0 < refused < len(pairs) * 0.8
