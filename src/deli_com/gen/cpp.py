"""Schemas to C++17: one header without dependencies, exceptions or RTTI."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deli_com.gen.plan import Names, Plan, Spelling, plain_start, runtime, summary
from deli_com.schema.schema import Schema
from deli_com.schema.tree import (
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
read_items write_items utf8_end little_endian is_number max_depth max_empty value one out r w index good
swapped data size least read write T N U held_ fault number
"""
_SCALARS = {"f32": "float", "f64": "double", "bool": "bool", "str": "std::string"}
_SCALARS |= {"bytes": "std::vector<std::uint8_t>"}
_SCALARS |= {f"u{n}": f"std::uint{n}_t" for n in (8, 16, 32, 64)}
_SCALARS |= {f"i{n}": f"std::int{n}_t" for n in (8, 16, 32, 64)}
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
        parts += [
            f"/// A whole message.\nstruct {self.roots[root]} {{\n  {self.type_of(tp, '')} value{{}};\n}};\n"
            for root, tp in self.plan.roots()
        ]
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
        return Names([*_KEYWORDS.split(), *self.types, "std", "detail", "Box"]).take_all(names)

    def doc(self, name: str) -> str:
        text = self.plan.docs.get(name, "")
        lines = (line.rstrip("\\").rstrip() for line in text.splitlines())
        return "".join(f"/// {line}".rstrip() + "\n" for line in lines)

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
        body = "".join(f"  {self.type_of(each.type, owner)} {names[each.name]}{{}};\n" for each in fields)
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
        parts.append(f"{self.doc(each.name)}struct {name} {{\n  std::variant<{choices}> value{{}};\n}};\n")
        return "\n".join(parts)

    def wire(self, each: Struct | Sealed | Enum) -> str:
        name = self.names[each.name]
        size = self.plan.sizes[each.name]
        if isinstance(each, Enum):
            return (
                f"template <>\nstruct Wire<{name}> {{\n  static constexpr std::uint64_t least = 4;\n"
                f"  static bool read(Reader& r, {name}& out) noexcept {{\n    std::uint32_t index;\n"
                f"    if (!r.index({len(each.members)}, index)) return false;\n"
                f"    out = static_cast<{name}>(index);\n    return true;\n  }}\n"
                f"  static bool write(Writer& w, const {name}& value) {{\n"
                f"    w.store(static_cast<std::uint32_t>(value), 4);\n    return true;\n  }}\n}};\n"
            )
        return self.wire_head(name, size)

    @staticmethod
    def wire_head(name: str, size: int) -> str:
        return (
            f"template <>\nstruct Wire<{name}> {{\n  static constexpr std::uint64_t least = {size};\n"
            f"  static bool read(Reader& r, {name}& out);\n"
            f"  static bool write(Writer& w, const {name}& value);\n}};\n"
        )

    def root_wire(self, name: str, tp: Type) -> str:
        type_ = self.type_of(tp, "")
        return self.wire_head(name, self.plan.least(tp)) + (
            f"inline bool Wire<{name}>::read(Reader& r, {name}& out) {{\n"
            f"  return Wire<{type_}>::read(r, out.value);\n}}\n"
            f"inline bool Wire<{name}>::write(Writer& w, const {name}& value) {{\n"
            f"  return Wire<{type_}>::write(w, value.value);\n}}\n"
        )

    def chain(self, fields: tuple[Field, ...], owner: str, function: str, first: str, at: str) -> str:
        # The calls that read or write the fields, joined: `a && b && c`.
        names = self.attributes(field.name for field in fields)
        calls = [
            f"Wire<{self.type_of(each.type, owner)}>::{function}({first}, {at}.{names[each.name]})"
            for each in fields
        ]
        size, kinds = plain_start(fields)
        if size and function == "read":  # the bounds of the leading numbers are checked once
            calls.insert(0, f'r.ready({size}, "{kinds}")')
        return " &&\n         ".join(calls) or "true"

    def code(self, each: Struct | Sealed) -> str:
        name = self.names[each.name]
        again = each.name in self.plan.recursive
        head_r = f"inline bool Wire<{name}>::read(Reader& r, {name}& out) {{\n"
        head_w = f"inline bool Wire<{name}>::write(Writer& w, const {name}& value) {{\n"
        if isinstance(each, Struct):
            read = self.chain(each.fields, each.name, "read", "r", "out")
            write = self.chain(each.fields, each.name, "write", "w", "value")
            if not each.fields:
                head_r, head_w = head_r.replace("r, ", ", ", 1), head_w.replace("w, ", ", ", 1)
                head_r, head_w = head_r.replace("& out)", "&)"), head_w.replace("& value)", "&)")
                head_r, head_w = (
                    head_r.replace("Reader& ,", "Reader&,"),
                    head_w.replace("Writer& ,", "Writer&,"),
                )
            if not again:
                return f"{head_r}  return {read};\n}}\n{head_w}  return {write};\n}}\n"
            return (
                f"{head_r}  if (!r.enter()) return false;\n  const bool good = {read};\n  r.depth--;\n"
                f"  return good;\n}}\n{head_w}  if (!w.enter()) return false;\n  const bool good = {write};\n"
                f"  w.depth--;\n  return good;\n}}\n"
            )
        reads, writes = "", ""
        for i, variant in enumerate(each.variants):
            own = self.variants[each.name, variant.name]
            if variant.fields:
                read = self.chain(variant.fields, each.name, "read", "r", "one")
                reads += (
                    f"    case {i}: {{\n      auto& one = out.value.template emplace<{i}>();\n"
                    f"      good = {read};\n      break;\n    }}\n"
                )
                write = self.chain(variant.fields, each.name, "write", "w", "one")
                writes += (
                    f"    case {i}: {{\n      const {own}& one = *std::get_if<{i}>(&value.value);\n"
                    f"      good = {write};\n      break;\n    }}\n"
                )
            else:
                reads += f"    case {i}:\n      out.value.template emplace<{i}>();\n      break;\n"
        enter = (
            ("  if (!r.enter()) return false;\n", "  if (!w.enter()) return false;\n") if again else ("", "")
        )
        leave = ("  r.depth--;\n", "  w.depth--;\n") if again else ("", "")
        good = "  bool good = true;\n"
        return (
            f"{head_r}{enter[0]}  std::uint32_t index;\n"
            f"  if (!r.index({len(each.variants)}, index)) return false;\n{good}"
            f"  switch (index) {{\n{reads}    default:\n      break;\n  }}\n{leave[0]}  return good;\n}}\n"
            f"{head_w}{enter[1]}  w.store(value.value.index(), 4);\n{good}"
            f"  switch (value.value.index()) {{\n{writes}    default:\n      break;\n  }}\n{leave[1]}"
            "  return good;\n}\n"
        )

    @staticmethod
    def public(name: str) -> str:
        return (
            f"/// Decode a value; bytes after it are ignored. After an error, `out` is unspecified.\n"
            f"inline Error from_bytes(const std::uint8_t* data, std::size_t size, {name}& out) {{\n"
            f"  return detail::decode(data, size, out);\n}}\n\n"
            f"/// Encode a value.\n"
            f"inline Error to_bytes(const {name}& value, std::vector<std::uint8_t>& out) {{\n"
            f"  return detail::encode(value, out);\n}}\n\n"
            f"/// Encode a value; the result is empty if the other overload gives an error.\n"
            f"inline std::vector<std::uint8_t> to_bytes(const {name}& value) {{\n"
            f"  std::vector<std::uint8_t> out;\n  (void)detail::encode(value, out);\n  return out;\n}}\n"
        )
