"""Values of random schemas as a reader of ROS 1 shows them, and a JavaScript program that reads a recording.

A value becomes one text, in which nothing depends on how a language prints: numbers in decimal, floats by
their bits, text and bytes in hexadecimal. `sent` makes it of a value, `read` of what a standard reader gives.
"""

from __future__ import annotations

import struct
from typing import Any

from random_schemas import Values

from deli_com.schema.tree import Enum, Field, Fixed, List, Product, Ref, Scalar, Sealed, Struct, Type

NODE = """
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
const [modules, folder] = process.argv.slice(2);
const require = createRequire(modules + "/");
const { McapIndexedReader } = require("@mcap/core");
const { parse } = require("@foxglove/rosmsg");
const { MessageReader } = require("@foxglove/rosmsg-serialization");

const hex = (b) => [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
const bits = new DataView(new ArrayBuffer(8));
function read([kind, inner], v) {
  if (kind === "struct") {
    const names = Object.keys(v);
    if (names.length !== inner.length) throw new Error(`fields ${names}`);
    return `{${inner.map(([name, plan], i) => {
      if (names[i] !== name) throw new Error(`${names[i]} is not ${name}`);
      return `${name}:${read(plan, v[name])}`;
    }).join(",")}}`;
  }
  if (kind === "list") return `[${Array.from(v, (each) => read(inner, each)).join(",")}]`;
  if (kind === "str") return `"${hex(new TextEncoder().encode(v))}"`;
  if (kind === "bytes") {
    if (!(v instanceof Uint8Array)) throw new Error("no bytes");
    return `x${hex(v)}`;
  }
  if (kind === "f32" || kind === "f64") {
    if (Number.isNaN(v)) return "nan";
    if (kind === "f32") bits.setFloat32(0, v); else bits.setFloat64(0, v);
    return hex(new Uint8Array(bits.buffer, 0, kind === "f32" ? 4 : 8));
  }
  if (kind === "bool" ? typeof v !== "boolean" : kind.endsWith("64") !== (typeof v === "bigint"))
    throw new Error(`${kind} is ${typeof v}`);
  return String(v);
}

const found = [];
for (const [name, plans] of JSON.parse(readFileSync(`${folder}/plans.json`, "utf8"))) {
  const data = readFileSync(`${folder}/${name}`);
  const readable = {
    size: async () => BigInt(data.length),
    read: async (offset, size) => new Uint8Array(data.subarray(Number(offset), Number(offset + size))),
  };
  const reader = await McapIndexedReader.Initialize({ readable });
  const readers = new Map();
  for (const channel of reader.channelsById.values()) {
    const schema = reader.schemasById.get(channel.schemaId);
    if (channel.messageEncoding !== "ros1" || schema.encoding !== "ros1msg") continue;
    readers.set(channel.id, new MessageReader(parse(new TextDecoder().decode(schema.data))));
  }
  for await (const message of reader.readMessages()) {
    const { topic } = reader.channelsById.get(message.channelId);
    const value = readers.get(message.channelId).readMessage(message.data);
    found.push(`${name} ${topic} ${message.logTime} ${read(plans[topic], value)}`);
  }
}
writeFileSync(`${folder}/node.txt`, found.join("\\n") + "\\n");
"""


def sent(values: Values, value: Any, tp: Type | None = None) -> str:
    """What a reader of ROS 1 should show of a value that was sent."""
    if tp is None:
        tp = values.schema.tree.root
        is_message = isinstance(tp, Ref) and not isinstance(values.by_name[tp.name], Enum)
        return sent(values, value, tp) if is_message else f"{{value:{sent(values, value, tp)}}}"
    match tp:
        case Scalar():
            return values.shown(value, tp)
        case List(item) | Fixed(item, _):
            shown = [sent(values, each, item) for each in value]
            return f"[{','.join(f'{{data:{each}}}' if _is_array(item) else each for each in shown)}]"
        case Product(items):
            shown = [sent(values, each, item) for item, each in zip(items, value, strict=True)]
            return f"{{{','.join(f'item{i}:{each}' for i, each in enumerate(shown))}}}"
        case Ref(name):
            definition = values.by_name[name]
            if isinstance(definition, Enum):
                return str(list(type(value)).index(value))
            head: list[str] = []
            if isinstance(definition, Sealed):
                place = values.variants(name).index(type(value))
                head, fields = [f"variant:{place}"], definition.variants[place].fields
            else:
                fields = definition.fields
            labels = _labels(fields, len(head))
            items = [getattr(value, each) for each in type(value).__match_args__]
            pairs_ = zip(labels, fields, items, strict=True)
            shown = [f"{label}:{sent(values, each, field.type)}" for label, field, each in pairs_]
            return f"{{{','.join([*head, *shown])}}}"
    raise AssertionError(tp)


def read(plan: Any, value: Any) -> str:
    """The same of what the packages of ROS 1 for Python give."""
    kind, inner = plan
    match kind:
        case "struct":
            names = list(
                value.__slots__
            )  # what would be no name in its code, as `class` and `self`, has a `_`
            pairs = zip(names, inner, strict=True)
            assert all(name in (label, f"{label}_") for name, (label, _) in pairs), names
            shown = [
                f"{label}:{read(each, getattr(value, n))}"
                for n, (label, each) in zip(names, inner, strict=True)
            ]
            return f"{{{','.join(shown)}}}"
        case "list":
            # One of uint8 is bytes, of which an item is a number too.
            return f"[{','.join(read(inner, each) for each in value)}]"
        case "str":
            return f'"{value.encode().hex()}"'
        case "bytes":
            return f"x{bytes(value).hex()}"
        case "f32" | "f64":
            return "nan" if value != value else struct.pack(">f" if kind == "f32" else ">d", value).hex()
        case "bool":
            assert value in (True, False)
            return "true" if value else "false"
    return str(value)


def plan(values: Values, variant: str) -> Any:
    """What `read` needs to know of the messages of one class; `variant` is empty where there are none."""
    root = values.schema.tree.root
    if isinstance(root, Ref):
        definition = values.by_name[root.name]
        if isinstance(definition, Sealed):
            fields = next(each.fields for each in definition.variants if each.name == variant)
            return _struct(values, fields, ("variant",))
        if isinstance(definition, Struct):
            return _struct(values, definition.fields)
    return ["struct", [["value", _plan(values, root)]]]


def _struct(values: Values, fields: tuple[Field, ...], first: tuple[str, ...] = ()) -> Any:
    labels = _labels(fields, len(first))
    pairs = [[label, _plan(values, field.type)] for label, field in zip(labels, fields, strict=True)]
    return ["struct", [*([name, ["u32", None]] for name in first), *pairs]]


def _plan(values: Values, tp: Type) -> Any:
    match tp:
        case Scalar(name):
            return [name, None]
        case List(item) | Fixed(item, _):
            inner = _plan(values, item)
            return ["list", ["struct", [["data", inner]]] if _is_array(item) else inner]
        case Product(items):
            return ["struct", [[f"item{i}", _plan(values, item)] for i, item in enumerate(items)]]
        case Ref(name):
            definition = values.by_name[name]
            if isinstance(definition, Struct):
                return _struct(values, definition.fields)
            return ["u32", None]
    raise AssertionError(tp)


def _is_array(tp: Type) -> bool:
    return isinstance(tp, List | Fixed) or tp == Scalar("bytes")


def _labels(fields: tuple[Field, ...], has_variant: int) -> list[str]:
    # ROS 1 has no names that begin with an underscore, and `variant` is the index.
    found = ["variant"] if has_variant else []
    for field in fields:
        name = f"f{field.name}" if field.name.startswith("_") else field.name
        while name in found:
            name += "_"
        found.append(name)
    return found[has_variant:]
