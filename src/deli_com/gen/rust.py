"""Schemas to Rust: one file for ``mod wire;`` that needs no crate."""

from __future__ import annotations

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

__all__ = ["rust"]

_KEYWORDS = """
abstract as async await become box break const continue crate do dyn else enum extern false final fn for
gen if impl in let loop macro match mod move mut override priv pub ref return self Self static struct
super trait true try type typeof unsafe unsized use virtual where while yield union macro_rules
"""
_USED = """
Box Codec DecodeError EncodeError Err None Ok Option Reader Result Self Sized Some String Vec Writer bool
f32 f64 i8 i16 i32 i64 i128 isize str u8 u16 u32 u64 u128 usize char std core alloc MAX_DEPTH MAX_EMPTY
SCHEMA_HASH SCHEMA_TEXT UP_SCHEMA_HASH UP_SCHEMA_TEXT numbers tuples Debug Clone Copy PartialEq Eq Hash
Default From Into Plain Fn FnMut FnOnce Drop Send Sync
"""
_LISTED = 60  # characters of a list of sizes that fits a line
_ON_STACK = 4096  # items of a fixed array that is stored in its struct; larger ones are boxed


def rust(schema: Schema, up: Schema | None = None) -> str:
    """Write a schema as Rust: a file for a module that needs no crate.

    It has plain structs and enums with ``from_bytes(&[u8]) -> Result<Self, DecodeError>``,
    ``to_bytes(&self) -> Vec<u8>`` and ``try_to_bytes``, ``SCHEMA_HASH`` and ``SCHEMA_TEXT``.

    Parameters
    ----------
    schema : Schema
        Schema of the values that the server sends.
    up : Schema, optional
        Schema of the values that clients send.

    Raises
    ------
    ValueError
        A name is used in both schemas for different types.
    """
    return _Rust(Plan.of(schema, up)).file()


class _Rust:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        spelling = Spelling(plan, [*_KEYWORDS.split(), *_USED.split()])
        self.names, self.roots = spelling.names, spelling.roots
        self.knots = plan.knots()
        self.by_name = {each.name: each for each in plan.definitions}
        self.arities: set[int] = set()

    def file(self) -> str:
        parts = [self.head()]
        parts += [self.declaration(each) for each in self.plan.definitions]
        parts += [self.root(self.roots[name], tp) for name, tp in self.plan.roots()]
        parts += [self.code(each) for each in self.plan.definitions]
        parts.append(runtime("core.rs"))
        if self.arities:
            parts.append(self.tuples())
        return "\n".join(parts)

    def head(self) -> str:
        text = (
            f"// {summary(self.plan.schema)}: made by deli-com gen. Do not edit.\n"
            "#![allow(dead_code, non_camel_case_types, non_snake_case)]\n\n"
        )
        for prefix, each in (("", self.plan.schema), ("UP_", self.plan.up)):
            if each is not None:
                text += f'pub const {prefix}SCHEMA_HASH: &str = "{each.hash}";\n'
                text += f'pub const {prefix}SCHEMA_TEXT: &str = "{each.text}";\n'
        return text

    @staticmethod
    def attributes(names: Iterable[str]) -> dict[str, str]:
        return Names([*_KEYWORDS.split(), "_"]).reserve_all(names)

    def doc(self, name: str, indent: str = "") -> str:
        text = self.plan.docs.get(name, "")
        return "".join(f"{indent}/// {line}".rstrip() + "\n" for line in text.splitlines())

    def type_of(self, tp: Type, owner: str, boxed: bool = True) -> str:
        """The type of a part of a value of `owner`. A part that can contain it is boxed, unless in lists."""
        match tp:
            case Scalar("str"):
                return "String"
            case Scalar("bytes"):
                return "Vec<u8>"
            case Scalar(name):
                return name
            case Ref(name):
                own = self.names[name]
                return f"Box<{own}>" if boxed and name in self.knots.get(owner, ()) else own
            case Option(item):
                return f"Option<{self.type_of(item, owner, boxed)}>"
            case List(item):
                return f"Vec<{self.type_of(item, owner, False)}>"
            case Fixed(item, count):
                found = f"[{self.type_of(item, owner, boxed)}; {count}]"
                return found if count <= _ON_STACK else f"Box<{found}>"
            case Product(items):
                self.arities.add(len(items))
                inner = ", ".join(self.type_of(item, owner, boxed) for item in items)
                return f"({inner},)" if len(items) == 1 else f"({inner})"

    def declaration(self, each: Struct | Sealed | Enum) -> str:
        name = self.names[each.name]
        if isinstance(each, Enum):
            members = self.attributes(each.members)
            body = "".join(f"    {members[member]},\n" for member in each.members)
            return (
                f"{self.doc(each.name)}#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]\n"
                f"pub enum {name} {{\n{body}}}\n"
            )
        derive = "#[derive(Debug, Clone, PartialEq)]\n"
        if isinstance(each, Struct):
            if not each.fields:
                return f"{self.doc(each.name)}{derive}pub struct {name} {{}}\n"
            names = self.attributes(field.name for field in each.fields)
            body = "".join(
                f"    pub {names[field.name]}: {self.type_of(field.type, each.name)},\n"
                for field in each.fields
            )
            return f"{self.doc(each.name)}{derive}pub struct {name} {{\n{body}}}\n"
        variants = self.attributes(variant.name for variant in each.variants)
        parts: dict[str, list[str]] = {}
        for variant in each.variants:
            names = self.attributes(field.name for field in variant.fields)
            parts[variants[variant.name]] = [
                f"{names[field.name]}: {self.type_of(field.type, each.name)}" for field in variant.fields
            ]
        # If one variant is broken over several lines, all are.
        width = 35 if all(len(", ".join(found)) <= 35 for found in parts.values()) else 0
        lines = [_braced(f"    {variant}", found, "    ", width) + ",\n" for variant, found in parts.items()]
        return f"{self.doc(each.name)}{derive}pub enum {name} {{\n{''.join(lines)}}}\n"

    def root(self, name: str, tp: Type) -> str:
        size = self.plan.least(tp)
        return (
            f"/// A whole message.\n#[derive(Debug, Clone, PartialEq)]\n"
            f"pub struct {name}(pub {self.type_of(tp, '')});\n\n"
            f"impl Codec for {name} {{\n    const LEAST: u64 = {size};\n\n"
            f"    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {{\n"
            f"        Ok({name}(Codec::read(r)?))\n    }}\n\n"
            f"    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {{\n"
            f"        self.0.write(w)\n    }}\n}}\n\n{self.public(name)}"
        )

    def code(self, each: Struct | Sealed | Enum) -> str:
        name = self.names[each.name]
        again = each.name in self.plan.recursive
        read, write = self.bodies(each, name)
        if again:
            if isinstance(each, Struct):
                read = read.replace("        Ok(", "        let value = ", 1).removesuffix(")\n")
                read += ";\n        r.depth -= 1;\n        Ok(value)\n"
            read = "        r.enter()?;\n" + read
            write = "        w.enter()?;\n" + write.removesuffix("        Ok(())\n")
            write += "        w.depth -= 1;\n        Ok(())\n"
        flat = self.flat(each.name)
        if flat is not None and isinstance(each, Struct):
            return f"{self.flat_code(name, each, flat)}\n{self.public(name)}"
        inline = "    #[inline]\n" if "r.plain::" in read else ""
        used = "r" if "(r)" in read or "r." in read else "_"
        used_w = "w" if "(w)" in write or "w." in write else "_"
        return (
            f"impl Codec for {name} {{\n    const LEAST: u64 = {self.plan.sizes[each.name]};\n\n"
            f"{inline}    fn read({used}: &mut Reader<'_>) -> Result<Self, DecodeError> {{\n{read}    }}\n\n"
            f"    fn write(&self, {used_w}: &mut Writer) -> Result<(), EncodeError> {{\n{write}    }}\n}}\n\n"
            f"{self.public(name)}"
        )

    def flat(self, name: str) -> str | None:
        """The sizes of the numbers of a struct that has nothing else, nested ones included; else None."""
        each = self.by_name[name]
        if not isinstance(each, Struct) or not each.fields or name in self.plan.recursive:
            return None
        kinds = ""
        for field in each.fields:
            match field.type:
                case Scalar(scalar) if scalar in SIZES and scalar != "bool":
                    kinds += str(SIZES[scalar])
                case Ref(inner) if (found := self.flat(inner)) is not None:
                    kinds += found
                case _:
                    return None
        return kinds if len(_listed(kinds)) <= _LISTED else None

    def flat_code(self, name: str, each: Struct, kinds: str) -> str:
        """`Plain` and `Codec` of a struct of numbers: lists of it are read and written in one loop."""
        names = self.attributes(field.name for field in each.fields)
        reads, writes, at = "", "", 0
        for field in each.fields:
            place = f"at + {at}" if at else "at"
            reads += f"            {names[field.name]}: Plain::at(found, {place}),\n"
            writes += f"        self.{names[field.name]}.to(found, {place});\n"
            at += self.plan.least(field.type)
        return (
            f"impl Plain for {name} {{\n    #[inline]\n"
            f"    fn at<const N: usize>(found: &[u8; N], at: usize) -> Self {{\n"
            f"        {name} {{\n{reads}        }}\n    }}\n\n    #[inline]\n"
            f"    fn to<const N: usize>(&self, found: &mut [u8; N], at: usize) {{\n{writes}    }}\n}}\n\n"
            f"impl Codec for {name} {{\n    const LEAST: u64 = {at};\n\n    #[inline]\n"
            f"    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {{\n"
            f"        let found = r.plain::<{at}>(&[{_listed(kinds)}], &[])?;\n"
            f"        Ok(Plain::at(found, 0))\n    }}\n\n    #[inline]\n"
            f"    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {{\n"
            f"        let mut found = [0; {at}];\n        self.to(&mut found, 0);\n"
            f"        w.put(&found);\n        Ok(())\n    }}\n\n"
            f"    fn read_many(r: &mut Reader<'_>, count: usize) -> Result<Vec<Self>, DecodeError> {{\n"
            f"        r.plain_many::<{at}, Self>(count)\n    }}\n\n"
            f"    fn write_many(items: &[Self], w: &mut Writer) -> Result<(), EncodeError> {{\n"
            f"        w.plain_many::<{at}, Self>(items);\n        Ok(())\n    }}\n}}\n"
        )

    def bodies(self, each: Struct | Sealed | Enum, name: str) -> tuple[str, str]:
        """The bodies of `read` and `write`."""
        if isinstance(each, Struct):
            names = self.attributes(field.name for field in each.fields)
            if not each.fields:
                return f"        Ok({name} {{}})\n", "        Ok(())\n"
            checked, reads = _plain(each.fields)
            parts = [f"{names[field.name]}: {read}" for field, read in zip(each.fields, reads, strict=True)]
            literal = checked + _braced(f"        Ok({name}", parts, "        ", 18)
            wrote, places = "", _places(each.fields) if checked else []
            if places:
                wrote = f"        let mut found = [0; {plain_start(each.fields)[0]}];\n"
                for field, at in zip(each.fields, places, strict=False):
                    wrote += f"        self.{names[field.name]}.to(&mut found, {at});\n"
                wrote += "        w.put(&found);\n"
            rest = each.fields[len(places) :]
            wrote += "".join(f"        self.{names[field.name]}.write(w)?;\n" for field in rest)
            return f"{literal})\n", f"{wrote}        Ok(())\n"
        if isinstance(each, Enum):
            members = self.attributes(each.members)
            arms = "".join(
                f"            {i} => Ok({name}::{members[member]}),\n"
                for i, member in enumerate(each.members)
            )
            read = (
                f"        let (index, offset) = r.index()?;\n        match index {{\n{arms}"
                "            _ => Err(DecodeError::InvalidVariant { index, offset }),\n        }\n"
            )
            return read, "        (*self as u32).write(w)\n"
        variants = self.attributes(variant.name for variant in each.variants)
        again = each.name in self.plan.recursive
        arms, writes = "", ""
        for i, variant in enumerate(each.variants):
            names = self.attributes(field.name for field in variant.fields)
            own = f"{name}::{variants[variant.name]}"
            parts = [f"{names[field.name]}: Codec::read(r)?" for field in variant.fields]
            arms += _braced(f"            {i} => {own}", parts, "            ", 18) + ",\n"
            # Fields are bound to names that cannot clash.
            bound = [f"{names[field.name]}: v{j}" for j, field in enumerate(variant.fields)]
            pattern = _braced(f"            {own}", bound, "            ", 18)
            wrote = "".join(f"                v{j}.write(w)?;\n" for j in range(len(bound)))
            writes += f"{pattern} => {{\n                {i}u32.write(w)?;\n{wrote}            }}\n"
        after = "        r.depth -= 1;\n" if again else ""
        read = (
            f"        let (index, offset) = r.index()?;\n        let value = match index {{\n{arms}"
            f"            _ => return Err(DecodeError::InvalidVariant {{ index, offset }}),\n        }};\n"
            f"{after}        Ok(value)\n"
        )
        return read, f"        match self {{\n{writes}        }}\n        Ok(())\n"

    def public(self, name: str) -> str:
        return (
            f"impl {name} {{\n"
            f"    /// Decode a value; bytes after it are ignored.\n"
            f"    #[inline]\n"
            f"    pub fn from_bytes(data: &[u8]) -> Result<Self, DecodeError> {{\n"
            f"        Codec::read(&mut Reader::new(data))\n    }}\n\n"
            f"    /// Encode the value. Panics if `try_to_bytes` would give an error.\n"
            f"    pub fn to_bytes(&self) -> Vec<u8> {{\n"
            f'        self.try_to_bytes().expect("a value that fits the wire")\n    }}\n\n'
            f"    /// Encode the value; an error if a list is too long, or the nesting too deep.\n"
            f"    pub fn try_to_bytes(&self) -> Result<Vec<u8>, EncodeError> {{\n"
            f"        let mut w = Writer::default();\n        self.write(&mut w)?;\n"
            f"        Ok(w.data)\n    }}\n}}\n"
        )

    def tuples(self) -> str:
        """`Codec` for tuples of the sizes that the schema has."""
        lines = []
        for arity in sorted(self.arities):
            letters = [f"T{i}" for i in range(arity)]
            generic = f"<{', '.join(f'{one}: Codec' for one in letters)}>" if letters else ""
            tuple_ = f"({', '.join(letters)}{',' if arity == 1 else ''})"
            least = " + ".join(f"{one}::LEAST" for one in letters) or "0"
            reads = ", ".join("Codec::read(r)?" for _ in letters) + ("," if arity == 1 else "")
            writes = "".join(f"        self.{i}.write(w)?;\n" for i in range(arity))
            r, w = ("r", "w") if letters else ("_", "_")
            lines.append(
                f"impl{generic} Codec for {tuple_} {{\n    const LEAST: u64 = {least};\n\n"
                f"    fn read({r}: &mut Reader<'_>) -> Result<Self, DecodeError> {{\n"
                f"        Ok(({reads}))\n    }}\n\n"
                f"    fn write(&self, {w}: &mut Writer) -> Result<(), EncodeError> {{\n"
                f"{writes}        Ok(())\n    }}\n}}\n"
            )
        return "\n".join(lines)


def _listed(kinds: str) -> str:
    return ", ".join("0" if kind == "b" else kind for kind in kinds)


def _places(fields: tuple[Field, ...]) -> list[int]:
    # The offsets of the leading numbers and bools.
    found, at = [], 0
    for kind in plain_start(fields)[1]:
        found.append(at)
        at += 1 if kind == "b" else int(kind)
    return found


def _plain(fields: tuple[Field, ...]) -> tuple[str, list[str]]:
    # Leading numbers and bools are checked together: that statement, and how each field is read.
    size, kinds = plain_start(fields)
    listed = _listed(kinds)
    reads, bools, at = [], [], 0
    for kind in kinds:
        reads.append(f"Plain::at(found, {at})")
        bools += [str(at)] if kind == "b" else []
        at += 1 if kind == "b" else int(kind)
    line = f"        let found = r.plain::<{size}>(&[{listed}], &[{', '.join(bools)}])?;\n"
    if not size or len(line) > 100:
        return "", ["Codec::read(r)?"] * len(fields)
    return line, reads + ["Codec::read(r)?"] * (len(fields) - len(kinds))


def _braced(head: str, parts: list[str], indent: str, width: int) -> str:
    if not parts:
        return head
    line = ", ".join(parts)
    if len(line) <= width:
        return f"{head} {{ {line} }}"
    return f"{head} {{\n" + "".join(f"{indent}    {part},\n" for part in parts) + f"{indent}}}"
