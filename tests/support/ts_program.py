"""A JavaScript program that decodes lines by generated modules, prints the values and encodes again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from deli_com import Schema
from deli_com.gen import typescript
from deli_com.schema.tree import Enum, Fixed, List, Option, Product, Ref, Scalar, Sealed, Type

DRIVER = """
const hex = (b) => [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
const bits = new DataView(new ArrayBuffer(8));

export function shown(plan, tp, v) {
  const [kind, a, b] = tp;
  if (kind === "list") return `[${Array.from(v, (e) => shown(plan, a, e)).join(",")}]`;
  if (kind === "option") return v === null ? "null" : shown(plan, a, v);
  if (kind === "product") return `[${a.map((item, i) => shown(plan, item, v[i])).join(",")}]`;
  if (kind === "enum") return `#${v}`;
  if (kind === "ref") {
    const definition = plan.definitions[a];
    if (definition[0] === "enum") return `#${v}`;
    if (definition[0] === "struct") return `{${fields(plan, definition[1], Object.values(v))}}`;
    return `${v.kind}{${fields(plan, definition[1][v.kind], Object.values(v).slice(1))}}`;
  }
  if (kind === "str") return `"${hex(new TextEncoder().encode(v))}"`;
  if (kind === "bytes") return `x${hex(v)}`;
  if (kind === "f32" || kind === "f64") {
    if (Number.isNaN(v)) return "nan";
    if (kind === "f32") bits.setFloat32(0, v); else bits.setFloat64(0, v);
    return hex(new Uint8Array(bits.buffer, 0, kind === "f32" ? 4 : 8));
  }
  if (typeof v === "number" && !Number.isInteger(v)) throw new Error("no integer");
  return String(v);
}

function fields(plan, list, values) {
  if (values.length !== list.length) throw new Error("another number of fields");
  return list.map(([name, tp], i) => `${name}:${shown(plan, tp, values[i])}`).join(",");
}

// By the functions of the type; and by its text, which must give the same.
export function outcome(plan, module, text) {
  const found = once(plan, module, text, module["decode" + plan.name]);
  plan.generic ??= new module.Generic(module.SCHEMA_TEXT);
  const bytes = found.startsWith("ok ") ? found.split(" ")[1] : "";
  const other = once(plan, module, text, (bytes) => plan.generic.decode(bytes), bytes);
  return found === other ? found : `${found} but by its text ${other}`;
}

function once(plan, module, text, decode, known = null) {
  const bytes = new Uint8Array(text.length / 2 + 3).subarray(3); // at an odd offset
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(text.slice(2 * i, 2 * i + 2), 16);
  let value;
  try {
    value = decode(bytes);
  } catch (e) {
    if (!(e instanceof module.DecodeError)) throw e;
    return `${e.name} ${e.offset} ${e.value ?? e.index ?? 0}`;
  }
  const text2 = shown(plan, plan.root, value);
  const again = known ?? hex(module["encode" + plan.name](value));
  return `ok ${text2.includes("nan") ? "-" : again} ${text2}`;
}
"""
NODE = """
import { readFileSync, writeFileSync } from "node:fs";
import { outcome } from "./driver.mjs";
const plans = JSON.parse(readFileSync("plans.json", "utf8"));
const modules = await Promise.all(plans.map((_, i) => import(`./s${i}.mjs`)));
const found = readFileSync("input.txt", "utf8").split("\\n").slice(0, -1).map((line) => {
  const [i, text] = line.split(" ");
  return outcome(plans[+i], modules[+i], text);
});
writeFileSync("output.txt", found.join("\\n") + "\\n");
"""


PAGE = """<!doctype html><meta charset="utf-8"><script type="module">
import { outcome } from "./driver.mjs";
const plans = await (await fetch("plans.json")).json();
const modules = await Promise.all(plans.map((_, i) => import(`./s${i}.mjs`)));
const lines = (await (await fetch("input.txt")).text()).split("\\n").slice(0, -1);
window.output = lines.map((line) => {
  const [i, text] = line.split(" ");
  return outcome(plans[+i], modules[+i], text);
}).join("\\n") + "\\n";
</script>
"""
BROWSER = """
import { writeFileSync } from "node:fs";
import { chromium } from "@MODULES@/playwright-core/index.mjs";
const [executablePath, url] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, chromiumSandbox: false });
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => { console.error(String(error)); process.exit(1); });
  await page.goto(url);
  await page.waitForFunction("window.output", null, { timeout: 0 });
  writeFileSync("output.txt", await page.evaluate("window.output"));
} finally {
  await browser.close();
}
"""


def _plan_of(tp: Type) -> list[Any]:
    match tp:
        case Scalar(name):
            return [name]
        case Ref(name):
            return ["ref", name]
        case List(item) | Fixed(item, _):
            return ["list", _plan_of(item)]
        case Option(item):
            return ["option", _plan_of(item)]
        case Product(items):
            return ["product", [*map(_plan_of, items)]]


def _fields(fields: Any) -> list[Any]:
    return [[each.name, _plan_of(each.type)] for each in fields]


def plan(schema: Schema, name: str) -> dict[str, Any]:
    """What the program needs to print values of a schema."""
    definitions: dict[str, Any] = {}
    for each in schema.tree.definitions:
        if isinstance(each, Enum):
            definitions[each.name] = ["enum"]
        elif isinstance(each, Sealed):
            definitions[each.name] = ["sealed", {v.name: _fields(v.fields) for v in each.variants}]
        else:
            definitions[each.name] = ["struct", _fields(each.fields)]
    return {"name": name, "root": _plan_of(schema.tree.root), "definitions": definitions}


def root_name(schema: Schema) -> str:
    """What the generator calls the root."""
    found = re.findall(r"export function decode(\w+)\(", typescript(schema))
    return found[0 if isinstance(schema.tree.root, Ref) else -1]


def write(folder: Path, schemas: list[Schema]) -> None:
    """The program and its modules, and the same in TypeScript for the compiler."""
    (folder / "driver.mjs").write_text(DRIVER, encoding="utf-8")
    (folder / "main.mjs").write_text(NODE, encoding="utf-8")
    (folder / "page.html").write_text(PAGE, encoding="utf-8")
    plans = [plan(schema, root_name(schema)) for schema in schemas]
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    for i, schema in enumerate(schemas):
        (folder / f"s{i}.mjs").write_text(typescript(schema, js=True, generic=True), encoding="utf-8")
        (folder / f"s{i}.ts").write_text(typescript(schema, generic=True), encoding="utf-8")
