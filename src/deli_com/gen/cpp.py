"""Schemas to C++17: one header without dependencies, exceptions or RTTI."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

from deli_com.gen.plan import Names, Plan, Spelling, plain_start, runtime, summary
from deli_com.schema.schema import Schema
from deli_com.schema.tree import (
    SIZES,
    Enum,
    Field,
    Fixed,
    List,
    Option,
    Product,
    Ref,
    Scalar,
    Sealed,
    Struct,
    Type,
)

__all__ = ["cpp"]

_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t
class compl concept const consteval constexpr constinit const_cast continue co_await co_return co_yield
decltype default delete do double dynamic_cast else enum explicit export extern false float for friend
goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private
protected public register reinterpret_cast requires return short signed sizeof static static_assert
static_cast struct switch template this thread_local throw true try typedef typeid typename union unsigned
using virtual void volatile wchar_t while xor xor_eq linux unix NULL EOF INFINITY NAN errno assert
"""
_USED = """
std Box Error Fault Reader Writer Wire detail to_bytes from_bytes SCHEMA_HASH SCHEMA_TEXT UP_SCHEMA_HASH
UP_SCHEMA_TEXT size_t uint8_t uint16_t uint32_t uint64_t int8_t int16_t int32_t int64_t main decode encode
read_items write_items read_one load_one write_one load utf8_end little_endian max_depth max_empty value one
out r w index good swapped data size least flat read write T N U held_ fault number
"""
_SCALARS = {"f32": "float", "f64": "double", "bool": "bool", "str": "std::string"}
_SCALARS |= {"bytes": "std::vector<std::uint8_t>"}
_SCALARS |= {f"u{n}": f"std::uint{n}_t" for n in (8, 16, 32, 64)}
_SCALARS |= {f"i{n}": f"std::int{n}_t" for n in (8, 16, 32, 64)}
_WIDTH = 100
_IN_PLACE = 4096  # items of a fixed array that is stored in its struct; larger ones are boxed


def cpp(schema: Schema, up: Schema | None = None, *, namespace: str = "wire") -> str:
    """Write a schema as C++17: one header that needs only the standard library.

    It has default-constructible structs, ``Error from_bytes(const std::uint8_t*, std::size_t, Name& out)``,
    ``std::vector<std::uint8_t> to_bytes(const Name&)``, ``SCHEMA_HASH`` and ``SCHEMA_TEXT``. It compiles
    without exceptions and RTTI.

    Parameters
    ----------
    schema : Schema
        Schema of the values that the server sends.
    up : Schema, optional
        Schema of the values that clients send.
    namespace : str
        Namespace of the header; ``a::b`` is nested.

    Raises
    ------
    ValueError
        A name is used in both schemas for different types, or the namespace is not valid.
    """
    words = namespace.split("::")
    if not all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", word) for word in words):
        raise ValueError(f"{namespace!r} is not a valid namespace")
    if {*words} & {*_KEYWORDS.split()}:
        raise ValueError(f"{namespace!r} contains a keyword of C++")
    return _Cpp(Plan.of(schema, up), namespace).file()


class _Cpp:
    def __init__(self, plan: Plan, namespace: str) -> None:
        self.plan = plan
        self.namespace = namespace
        spelling = Spelling(plan, [*_KEYWORDS.split(), *_USED.split(), *namespace.split("::")])
        self.names, self.roots, self.variants = spelling.names, spelling.roots, spelling.variants
        self.knots = plan.knots()
        self.plan_by_name = {each.name: each for each in plan.definitions}
        # A member with the name of a type would hide that type in its struct.
        self.types = spelling.types()

    def file(self) -> str:
        name = self.namespace
        order = self.plan.inner_first()
        parts = [self.head(), f"namespace {name} {{\n", self.constants(), runtime("core.hpp")]
        forward = [f"struct {self.names[each.name]};\n" for each in order if each.name in self.plan.recursive]
        if forward:
            parts.append("".join(forward))
        parts += [self.declaration(each) for each in order]
        for root, tp in self.plan.roots():
            member = _member(self.type_of(tp, ""), "value")
            parts.append(f"/// A whole message.\nstruct {self.roots[root]} {{\n{member}}};\n")
        parts.append("namespace detail {\n")
        parts += [self.wire(each) for each in order]
        parts += [self.root_wire(self.roots[root], tp) for root, tp in self.plan.roots()]
        parts += [self.code(each) for each in order if not isinstance(each, Enum)]
        parts.append("}  // namespace detail\n")
        parts += [self.public(self.names[each.name]) for each in order]
        parts += [self.public(self.roots[root]) for root, _ in self.plan.roots()]
        parts.append(f"}}  // namespace {name}\n")
        return "\n".join(parts)

    def head(self) -> str:
        included = [
            "array",
            "cstddef",
            "cstdint",
            "cstring",
            "optional",
            "string",
            "tuple",
            "type_traits",
            "variant",
            "vector",
        ]
        return (
            f"// {summary(self.plan.schema)}: made by deli-com gen. Do not edit.\n#pragma once\n\n"
            + "".join(f"#include <{name}>\n" for name in included)
        )

    def constants(self) -> str:
        text = ""
        for prefix, each in (("", self.plan.schema), ("UP_", self.plan.up)):
            if each is not None:
                text += f'inline constexpr const char* {prefix}SCHEMA_HASH = "{each.hash}";\n'
                lines = each.text.splitlines()
                body = "\n".join(f'    "{line}\\n"' for line in lines)
                text += f"inline constexpr const char* {prefix}SCHEMA_TEXT =\n{body};\n"
        return text

    def attributes(self, names: Iterable[str]) -> dict[str, str]:
        return Names([*_KEYWORDS.split(), *self.types, "std", "detail", "Box"]).reserve_all(names)

    def doc(self, name: str) -> str:
        # A backslash at the end would continue the comment.
        lines = [line.rstrip("\\").rstrip() for line in self.plan.docs.get(name, "").splitlines()]
        return "".join(f"/// {line}".rstrip() + "\n" for line in _refilled(lines, _WIDTH - 4))

    def type_of(self, tp: Type, owner: str, boxed: bool = True) -> str:
        match tp:
            case Scalar(name):
                return _SCALARS[name]
            case Ref(name):
                own = self.names[name]
                return f"Box<{own}>" if boxed and name in self.knots.get(owner, ()) else own
            case Option(item):
                return f"std::optional<{self.type_of(item, owner, boxed)}>"
            case List(item):
                return f"std::vector<{self.type_of(item, owner, False)}>"
            case Fixed(item, count):
                found = f"std::array<{self.type_of(item, owner, boxed)}, {count}>"
                return found if count <= _IN_PLACE else f"Box<{found}>"
            case Product(items):
                return f"std::tuple<{', '.join(self.type_of(item, owner, boxed) for item in items)}>"

    def struct(self, name: str, fields: tuple[Field, ...], owner: str, doc: str) -> str:
        if not fields:
            return f"{doc}struct {name} {{}};\n"
        names = self.attributes(field.name for field in fields)
        body = "".join(_member(self.type_of(each.type, owner), names[each.name]) for each in fields)
        return f"{doc}struct {name} {{\n{body}}};\n"

    def declaration(self, each: Struct | Sealed | Enum) -> str:
        name = self.names[each.name]
        if isinstance(each, Enum):
            members = self.attributes(each.members)
            body = "".join(f"  {members[member]},\n" for member in each.members)
            return f"{self.doc(each.name)}enum class {name} : std::uint32_t {{\n{body}}};\n"
        if isinstance(each, Struct):
            return self.struct(name, each.fields, each.name, self.doc(each.name))
        parts = [
            self.struct(self.variants[each.name, v.name], v.fields, each.name, "") for v in each.variants
        ]
        choices = ", ".join(self.variants[each.name, v.name] for v in each.variants)
        member = _member(f"std::variant<{choices}>", "value")
        parts.append(f"{self.doc(each.name)}struct {name} {{\n{member}}};\n")
        return "\n".join(parts)

    def wire(self, each: Struct | Sealed | Enum) -> str:
        name = self.names[each.name]
        size = self.plan.sizes[each.name]
        if isinstance(each, Enum):
            return (
                f"template <>\nstruct Wire<{name}> {{\n  static constexpr std::uint64_t least = 4;\n"
                f"  static constexpr bool flat = false;\n"
                f"{_head('  static bool read(', 'Reader& r', f'{name}& out', end=' noexcept {')}"
                f"    std::uint32_t index;\n"
                f"    if (!r.index({len(each.members)}, index)) return false;\n"
                f"    out = static_cast<{name}>(index);\n    return true;\n  }}\n"
                f"{_head('  static bool write(', 'Writer& w', f'const {name}& value')}"
                f"    w.store(static_cast<std::uint32_t>(value));\n    return true;\n  }}\n}};\n"
            )
        flat = f"sizeof({name}) == {size}" if self.flat(Ref(each.name)) else "false"
        return self.wire_head(name, size, flat)

    def flat(self, tp: Type) -> bool:
        """Whether a type has only numbers, in place. Without padding it is copied as it is."""
        match tp:
            case Scalar(name):
                return name in SIZES and name != "bool"
            case Fixed(item, count):
                return 0 < count <= _IN_PLACE and self.flat(item)
            case Ref(name):
                each = self.plan_by_name[name]
                return isinstance(each, Struct) and bool(each.fields) and self.all_flat(each)
            case _:
                return False

    def all_flat(self, each: Struct) -> bool:
        return each.name not in self.plan.recursive and all(self.flat(field.type) for field in each.fields)

    @staticmethod
    def wire_head(name: str, size: int, flat: str) -> str:
        return (
            f"template <>\nstruct Wire<{name}> {{\n  static constexpr std::uint64_t least = {size};\n"
            f"  static constexpr bool flat = {flat};\n"
            f"{_head('  static bool read(', 'Reader& r', f'{name}& out', end=';')}"
            f"{_head('  static bool write(', 'Writer& w', f'const {name}& value', end=';')}}};\n"
        )

    def root_wire(self, name: str, tp: Type) -> str:
        head_r = _head(f"inline bool Wire<{name}>::read(", "Reader& r", f"{name}& out")
        head_w = _head(f"inline bool Wire<{name}>::write(", "Writer& w", f"const {name}& value")
        return (
            f"{self.wire_head(name, self.plan.least(tp), 'false')}"
            f"{_function(head_r, '  return read_one(r, out.value);')}"
            f"{_function(head_w, '  return write_one(w, value.value);')}"
        )

    def chain(self, fields: tuple[Field, ...], function: str, first: str, at: str) -> list[str]:
        """The calls that read or write the fields. They are joined by ``&&``."""
        names = self.attributes(field.name for field in fields)
        calls = [f"{function}({first}, {at}.{names[each.name]})" for each in fields]
        size, kinds = plain_start(fields)
        if size and function == "read_one":  # the bounds of the leading numbers are checked once
            calls = [call.replace(function, "load_one", 1) for call in calls[: len(kinds)]] + calls[
                len(kinds) :
            ]
            calls.insert(0, f'r.ready({size}, "{kinds}")')
        return calls or ["true"]

    def code(self, each: Struct | Sealed) -> str:
        name = self.names[each.name]
        again = each.name in self.plan.recursive
        if isinstance(each, Struct) and not each.fields:
            return "".join(
                _function(_head(f"inline bool Wire<{name}>::{function}(", *types), "  return true;")
                for function, *types in (
                    ("read", "Reader&", f"{name}&"),
                    ("write", "Writer&", f"const {name}&"),
                )
            )
        head_r = _head(f"inline bool Wire<{name}>::read(", "Reader& r", f"{name}& out")
        head_w = _head(f"inline bool Wire<{name}>::write(", "Writer& w", f"const {name}& value")
        enter_r, enter_w, leave_r, leave_w = "", "", "", ""
        if again:
            enter_r, enter_w = "  if (!r.enter()) return false;\n", "  if (!w.enter()) return false;\n"
            leave_r, leave_w = "  r.depth--;\n", "  w.depth--;\n"
        if isinstance(each, Struct):
            read = self.chain(each.fields, "read_one", "r", "out")
            write = self.chain(each.fields, "write_one", "w", "value")
            start = "  const bool good = " if again else "  return "
            end = "  return good;\n" if again else ""
            body_r = f"{enter_r}{_all(start, read)}{leave_r}{end}"
            body_w = f"{enter_w}{_all(start, write)}{leave_w}{end}"
            return _function(head_r, body_r) + _function(head_w, body_w)
        reads, writes = "", ""
        for i, variant in enumerate(each.variants):
            if variant.fields:
                read = self.chain(variant.fields, "read_one", "r", "one")
                reads += (
                    f"    case {i}: {{\n      auto& one = out.value.template emplace<{i}>();\n"
                    f"{_all('      good = ', read)}      break;\n    }}\n"
                )
                write = self.chain(variant.fields, "write_one", "w", "one")
                writes += (
                    f"    case {i}: {{\n      const auto& one = *std::get_if<{i}>(&value.value);\n"
                    f"{_all('      good = ', write)}      break;\n    }}\n"
                )
            else:
                reads += f"    case {i}:\n      out.value.template emplace<{i}>();\n      break;\n"
        good = "  bool good = true;\n"
        return (
            f"{head_r}{enter_r}  std::uint32_t index;\n"
            f"  if (!r.index({len(each.variants)}, index)) return false;\n{good}"
            f"  switch (index) {{\n{reads}    default:\n      break;\n  }}\n{leave_r}  return good;\n}}\n"
            f"{head_w}{enter_w}  w.store(static_cast<std::uint32_t>(value.value.index()));\n{good}"
            f"  switch (value.value.index()) {{\n{writes}    default:\n      break;\n  }}\n{leave_w}"
            "  return good;\n}\n"
        )

    @staticmethod
    def public(name: str) -> str:
        read = ("const std::uint8_t* data", "std::size_t size", f"{name}& out")
        return (
            f"/// Decode a value; bytes after it are ignored. After an error, `out` is unspecified.\n"
            f"{_head('inline Error from_bytes(', *read)}"
            f"  return detail::decode(data, size, out);\n}}\n\n"
            f"/// Encode a value.\n"
            f"{_head('inline Error to_bytes(', f'const {name}& value', 'std::vector<std::uint8_t>& out')}"
            f"  return detail::encode(value, out);\n}}\n\n"
            f"/// Encode a value; the result is empty if the other overload gives an error.\n"
            f"inline std::vector<std::uint8_t> to_bytes(const {name}& value) {{\n"
            f"  std::vector<std::uint8_t> out;\n  (void)detail::encode(value, out);\n  return out;\n}}\n"
        )


def _refilled(lines: list[str], width: int) -> list[str]:
    # What does not fit a line goes to the next one, if that continues the paragraph, else to one of its own.
    found = []
    left = lines[::-1]
    while left:
        line = left.pop()
        indent = line[: len(line) - len(line.lstrip())]
        place = line.rfind(" ", len(indent) + 1, width + 1) if len(line) > width else -1
        if place > 0:
            rest = line[place:].strip()
            line = line[:place].rstrip()
            goes_on = left and re.match(r"\w", left[-1][len(indent) :]) and left[-1].startswith(indent)
            left.append(indent + rest + (" " + left.pop().strip() if goes_on else ""))
        found.append(line)
    return found


# --- the layout that clang-format leaves: Google's style, 100 columns, one operand a line ---


def _head(start: str, *parameters: str, end: str = " {") -> str:
    # The head of a function. Parameters that do not fit the line go on below the first one.
    lines = [start]
    for i, each in enumerate(parameters):
        last = i == len(parameters) - 1
        text = each + (")" + end if last else ",")
        space = "" if lines[-1].endswith("(") or not lines[-1].strip() else " "
        if len(lines[-1]) + len(space) + len(text) > _WIDTH and lines[-1].strip() != start.strip():
            lines.append(" " * len(start))
            space = ""
        lines[-1] += space + text
    return "\n".join(lines) + "\n"


def _function(head: str, body: str) -> str:
    # A function, on one line if that has room.
    head, body = head.rstrip("\n"), body.rstrip("\n")
    line = f"{head} {body.strip()} }}\n"
    if "\n" not in head + body and len(line) <= _WIDTH + 1:
        return line
    return f"{head}\n{body}\n}}\n"


def _all(start: str, calls: list[str]) -> str:
    # A statement whose value is that all calls are true.
    joined = f"{' && '.join(calls)};\n"
    if len(start) + len(joined) <= _WIDTH + 1:
        return start + joined
    indent = " " * (len(start) - len(start.lstrip()) + 4)
    if start.endswith("= ") and len(indent) + len(joined) <= _WIDTH + 1:
        return f"{start.rstrip()}\n{indent}{joined}"
    return start + f" &&\n{' ' * len(start)}".join(calls) + ";\n"


def _member(type_: str, name: str) -> str:
    # A member of a struct. A type longer than a line is wrapped as text, which clang-format is told to leave.
    line = f"  {type_} {name}{{}};\n"
    if len(line) <= _WIDTH + 1:
        return line
    words = textwrap.wrap(type_, _WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    body = "\n      ".join(words)
    return f"  // clang-format off\n  {body}\n      {name}{{}};\n  // clang-format on\n"
