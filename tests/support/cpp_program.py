"""A C++ program that decodes lines by generated headers, prints the values and encodes again."""

from __future__ import annotations

from pathlib import Path

from deli_com import Schema
from deli_com.gen import cpp
from deli_com.gen.cpp import _Cpp
from deli_com.gen.plan import Plan
from deli_com.schema.tree import Enum, Fixed, List, Option, Product, Ref, Scalar, Sealed, Struct, Type

COMMON = r"""
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

inline std::string hex(const std::uint8_t* p, std::size_t n) {
  std::string out;
  char two[3];
  for (std::size_t i = 0; i < n; i++) { std::snprintf(two, 3, "%02x", p[i]); out += two; }
  return out;
}
template <class T> std::string shown_float(T v) {
  if (v != v) return "nan";
  std::uint8_t raw[sizeof(T)], back[sizeof(T)];
  std::memcpy(raw, &v, sizeof(T));
  for (std::size_t i = 0; i < sizeof(T); i++) back[i] = raw[sizeof(T) - 1 - i];
  return hex(back, sizeof(T));
}
"""
MAIN = r"""
#include <iostream>

#include "common.hpp"

@HEADS@
int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const std::size_t space = line.find(' ');
    const int place = std::stoi(line.substr(0, space));
    std::vector<std::uint8_t> data;
    for (std::size_t i = space + 1; i + 1 < line.size() + 0; i += 2) {
      data.push_back(static_cast<std::uint8_t>(std::stoi(line.substr(i, 2), nullptr, 16)));
    }
    data.shrink_to_fit();
    std::string out;
    switch (place) {
@ARMS@    }
    std::puts(out.c_str());
  }
}
"""


def _show(tp: Type, v: str, n: int, depth: int = 0) -> str:
    e = f"e{depth}"
    match tp:
        case Scalar("bool"):
            return f'out += {v} ? "true" : "false"; '
        case Scalar("str"):
            return f"out += '\"' + hex(reinterpret_cast<const std::uint8_t*>(({v}).data()), ({v}).size()) + '\"'; "
        case Scalar("bytes"):
            return f"out += 'x' + hex(({v}).data(), ({v}).size()); "
        case Scalar("f32" | "f64"):
            return f"out += shown_float({v}); "
        case Scalar():
            return f"out += std::to_string({v}); "
        case Option(item):
            return f'if (!({v})) out += "null"; else {{ const auto& {e} = *({v}); {_show(item, e, n, depth + 1)} }} '
        case List(item) | Fixed(item, _):
            boxed = isinstance(tp, Fixed) and tp.count > 4096
            at = f"(*({v}))" if boxed else v
            return (
                f"out += '['; {{ bool first = true; for (const auto& {e} : {at}) {{ if (!first) out += ','; first = false; "
                f"{_show(item, e, n, depth + 1)} (void){e}; }} }} out += ']'; "
            )
        case Product(items):
            parts = "out += ','; ".join(
                _show(item, f"std::get<{i}>({v})", n, depth + 1) for i, item in enumerate(items)
            )
            return f"out += '['; {parts} out += ']'; "
        case Ref():
            return f"show{n}({v}, out); "


def _outcome(schema: Schema, n: int) -> str:
    # The file of one schema: a function that decodes bytes, shows the value, and encodes it again.
    made = _Cpp(Plan.of(schema, None), f"s{n}")
    heads, found = [], []

    def fields(each: tuple, at: str) -> str:
        names = made.attributes(f.name for f in each)
        parts = [f'out += "{f.name}:"; ' + _show(f.type, f"{at}.{names[f.name]}", n) for f in each]
        return "out += '{'; " + "out += ','; ".join(parts) + " out += '}'; "

    for each in made.plan.definitions:
        name = f"s{n}::{made.names[each.name]}"
        heads.append(f"void show{n}(const {name}& v, std::string& out);")
        if each.name in made.plan.recursive:
            heads.append(
                f"void show{n}(const s{n}::Box<{name}>& v, std::string& out) {{ show{n}(*v, out); }}"
            )
        if isinstance(each, Struct):
            body = fields(each.fields, "v") + "(void)v;"
        elif isinstance(each, Enum):
            names = made.attributes(each.members)
            body = f"static const char* names[] = {{{', '.join(chr(34) + '#' + m + chr(34) for m in each.members)}}}; "
            body += "out += names[static_cast<std::uint32_t>(v)];"
            del names
        elif isinstance(each, Sealed):
            body = ""
            for i, variant in enumerate(each.variants):
                inner = fields(variant.fields, "one")
                body += (
                    f"if (v.value.index() == {i}) {{ const auto& one = *std::get_if<{i}>(&v.value); (void)one; "
                    f'out += "{variant.name}"; {inner} }} '
                )
        found.append(f"void show{n}(const {name}& v, std::string& out) {{ {body} }}")
    root = schema.tree.root
    for key, tp in made.plan.roots():
        name = f"s{n}::{made.roots[key]}"
        heads.append(f"void show{n}(const {name}& v, std::string& out);")
        found.append(
            f"void show{n}(const {name}& v, std::string& out) {{ {_show(tp, 'v.value', n)} (void)v; }}"
        )
    own = made.names[root.name] if isinstance(root, Ref) else made.roots["Root"]
    return (
        f'#include "common.hpp"\n#include "s{n}.hpp"\n'
        + "\n".join(heads + found)
        + f"\nstd::string outcome{n}(const std::vector<std::uint8_t>& data) {{\n  s{n}::{own} value;\n"
        f"  const s{n}::Error error = s{n}::from_bytes(data.data(), data.size(), value);\n"
        "  if (error) {\n"
        '    static const char* names[] = {"", "UnexpectedEof", "InvalidUtf8", "InvalidBool", "InvalidVariant", "DecodeError", "DecodeError", "DecodeError"};\n'
        "    const int fault = static_cast<int>(error.fault);\n"
        '    return std::string(names[fault]) + " " + std::to_string(error.offset) + " " + std::to_string(fault < 5 ? error.number : 0);\n'
        "  }\n"
        f"  std::string text;\n  show{n}(value, text);\n"
        f"  const std::vector<std::uint8_t> again = s{n}::to_bytes(value);\n"
        '  return "ok " + (text.find("nan") != std::string::npos ? std::string("-") : hex(again.data(), again.size())) + " " + text;\n'
        "}\n"
    )


def write(folder: Path, schemas: list[Schema], together: int = 1) -> list[str]:
    """The program, with a file for so many schemas; the names of its files, without ``.cpp``."""
    heads, arms = "", ""
    bodies: dict[str, str] = {}
    for i, schema in enumerate(schemas):
        (folder / f"s{i}.hpp").write_text(cpp(schema, namespace=f"s{i}"), encoding="utf-8")
        name = f"s{i - i % together}"
        bodies[name] = bodies.get(name, "") + _outcome(schema, i)
        heads += f"std::string outcome{i}(const std::vector<std::uint8_t>& data);\n"
        arms += f"      case {i}: out = outcome{i}(data); break;\n"
    (folder / "common.hpp").write_text(COMMON, encoding="utf-8")
    (folder / "main.cpp").write_text(MAIN.replace("@HEADS@", heads).replace("@ARMS@", arms), encoding="utf-8")
    for name, body in bodies.items():
        (folder / f"{name}.cpp").write_text(body, encoding="utf-8")
    return ["main", *bodies]
