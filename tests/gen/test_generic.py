"""The generic decoder in TypeScript reads another writer's values exactly as Python does."""

from __future__ import annotations

import contextlib
import json
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
