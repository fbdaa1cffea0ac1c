"""A Rust program that decodes lines by generated modules, prints the values and encodes again."""

from __future__ import annotations

from pathlib import Path

from deli_com import Schema
from deli_com.gen import rust
from deli_com.gen.plan import Plan
from deli_com.gen.rust import _Rust
from deli_com.schema.tree import Enum, Ref, Sealed, Struct

MAIN = r"""
use std::fmt::Write as _;
use std::io::{BufRead, Write as _};

pub trait Show {
    fn show(&self, out: &mut String);
}
macro_rules! integers {
    ($($t:ty)*) => {$(impl Show for $t { fn show(&self, out: &mut String) { let _ = write!(out, "{self}"); }
    })*};
}
integers!(u16 u32 u64 i8 i16 i32 i64 bool);
impl Show for u8 { fn show(&self, out: &mut String) { let _ = write!(out, "{self}"); } }
impl Show for f32 {
    fn show(&self, out: &mut String) {
        if self.is_nan() { out.push_str("nan") } else { let _ = write!(out, "{:08x}", self.to_bits()); }
    }
}
impl Show for f64 {
    fn show(&self, out: &mut String) {
        if self.is_nan() { out.push_str("nan") } else { let _ = write!(out, "{:016x}", self.to_bits()); }
    }
}
impl Show for String {
    fn show(&self, out: &mut String) { let _ = write!(out, "\"{}\"", hex(self.as_bytes())); }
}
pub struct Raw<'a>(pub &'a [u8]);
impl Show for Raw<'_> {
    fn show(&self, out: &mut String) { let _ = write!(out, "x{}", hex(self.0)); }
}
impl<T: Show> Show for Box<T> { fn show(&self, out: &mut String) { (**self).show(out) } }

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

@MODULES@
fn main() {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (place, text) = line.split_once(' ').unwrap();
        let data: Vec<u8> =
            (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect();
        let found = match place.parse::<usize>().unwrap() {
@ARMS@            _ => unreachable!(),
        };
        writeln!(out, "{found}").unwrap();
    }
}
"""
ONE = r"""
pub fn outcome(data: &[u8]) -> String {
    match @ROOT@::from_bytes(data) {
        Ok(value) => {
            let mut text = String::new();
            value.show(&mut text);
            let again = if text.contains("nan") { "-".to_string() } else { crate::hex(&value.to_bytes()) };
            format!("ok {again} {text}")
        }
        Err(error) => {
            let (name, number) = match &error {
                DecodeError::UnexpectedEof { .. } => ("UnexpectedEof", 0),
                DecodeError::InvalidUtf8 { .. } => ("InvalidUtf8", 0),
                DecodeError::InvalidBool { value, .. } => ("InvalidBool", *value as u32),
                DecodeError::InvalidVariant { index, .. } => ("InvalidVariant", *index),
                _ => ("DecodeError", 0),
            };
            format!("{name} {} {number}", error.offset())
        }
    }
}
"""


def _show(tp: object, value: str, depth: int = 0) -> str:
    # Statements that show a value; `value` is a place.
    from deli_com.schema.tree import Fixed, List, Option, Product, Scalar

    one = f"e{depth}"
    match tp:
        case Scalar("bytes"):
            return f"crate::Raw(&{value}).show(out); "
        case Option(item):
            return f'match &{value} {{ None => out.push_str("null"), Some({one}) => {{ {_show(item, one, depth + 1)} }} }} '
        case List(item) | Fixed(item, _):
            return (
                f"out.push('['); for (i{depth}, {one}) in {value}.iter().enumerate() {{ "
                f"if i{depth} > 0 {{ out.push(',') }} {_show(item, one, depth + 1)} }} out.push(']'); "
            )
        case Product(items):
            parts = "out.push(','); ".join(
                _show(item, f"{value}.{i}", depth + 1) for i, item in enumerate(items)
            )
            return f"out.push('['); {parts}out.push(']'); "
        case _:
            return f"{value}.show(out); "


def _shows(schema: Schema) -> str:
    made = _Rust(Plan.of(schema, None))
    found = ["use crate::Show;"]
    for each in made.plan.definitions:
        name = made.names[each.name]
        body = ""
        if isinstance(each, Struct):
            names = made.attributes(field.name for field in each.fields)
            parts = [
                f'out.push_str("{field.name}:"); ' + _show(field.type, f"self.{names[field.name]}")
                for field in each.fields
            ]
            body = "out.push('{'); " + "out.push(','); ".join(parts) + "out.push('}');"
        elif isinstance(each, Enum):
            names = made.attributes(each.members)
            arms = "".join(f'{name}::{names[m]} => "#{m}", ' for m in each.members)
            body = f"out.push_str(match self {{ {arms} }});"
        elif isinstance(each, Sealed):
            variants = made.attributes(v.name for v in each.variants)
            for variant in each.variants:
                names = made.attributes(field.name for field in variant.fields)
                bound = ", ".join(f"{names[f.name]}: v{j}" for j, f in enumerate(variant.fields))
                parts = [
                    f'out.push_str("{f.name}:"); ' + _show(f.type, f"v{j}")
                    for j, f in enumerate(variant.fields)
                ]
                shown = (
                    'out.push_str("'
                    + variant.name
                    + '{"); '
                    + "out.push(','); ".join(parts)
                    + "out.push('}');"
                )
                body += f"{name}::{variants[variant.name]} {{ {bound} }} => {{ {shown} }} "
            body = f"match self {{ {body} }}"
        found.append(f"impl Show for {name} {{ fn show(&self, out: &mut String) {{ {body} }} }}")
    for name, tp in made.plan.roots():
        body = _show(tp, "self.0")
        found.append(f"impl Show for {made.roots[name]} {{ fn show(&self, out: &mut String) {{ {body} }} }}")
    root = schema.tree.root
    own = made.names[root.name] if isinstance(root, Ref) else made.roots["Root"]
    return "\n".join(found) + ONE.replace("@ROOT@", own)


def write(folder: Path, schemas: list[Schema]) -> Path:
    """The program; returns its main file."""
    modules = "".join(f"mod s{i};\n" for i in range(len(schemas)))
    arms = "".join(f"            {i} => s{i}::outcome(&data),\n" for i in range(len(schemas)))
    main = folder / "main.rs"
    main.write_text(MAIN.replace("@MODULES@", modules).replace("@ARMS@", arms), encoding="utf-8")
    for i, schema in enumerate(schemas):
        (folder / f"s{i}.rs").write_text(rust(schema) + "\n" + _shows(schema), encoding="utf-8")
    return main
