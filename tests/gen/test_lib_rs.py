"""Python from a ``lib.rs``: the types that derive Codec, and their schemas."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import vector_types

pytest.importorskip(
    "tree_sitter_rust", reason="Rust is read with tree-sitter, which the group test has on Linux"
)

from deli_com import codec
from deli_com.__main__ import main
from deli_com.gen.lib_rs import python_of_rust

LIB = """
//! Types of an application.
use deli::{Codec, Dart};
use std::collections::HashMap;

/// A point.
#[derive(Debug, Clone, Codec, Dart)]
pub struct Point { pub x: f32, pub y: f32 }

#[derive(Codec)]
pub struct Empty;

#[derive(Codec)]
pub(crate) struct Pair(pub u8, i64);

// Not for the wire.
#[derive(Debug)]
struct Cache<T> { inner: HashMap<String, T> }

#[derive(deli::Codec)]
#[allow(dead_code)]
struct Path_ {
    points: Vec<Point>,
    tags: std::vec::Vec<String>, // of each
    grid: Vec<Vec<u16>>,
}

pub mod inner {
    #[derive(Codec, PartialEq)]
    pub enum Color { Red, Green, Blue }

    #[derive(Codec)]
    pub enum Shape {
        Circle { radius: f32 },
        Rectangle(f32, f32),
        Dot,
    }
}

#[derive(Codec)]
struct Everything {
    r#type: Vec<u8>,
    shape: inner::Shape,
    color: crate::inner::Color,
    fixed: [u16; 1_000],
    maybe: Option<(bool, String)>,
    next: Option<Box<Everything>>,
    unit: (),
    all: Vec<Pair>,
    empty: Empty,
    path: Path_,
}
"""


def loaded(text: str) -> Any:
    module = types.ModuleType("from_rust")
    sys.modules["from_rust"] = module
    try:
        exec(compile(text, "from_rust.py", "exec"), module.__dict__)
        for word in re.findall(r"^class (\w+)\(Codec", text, re.MULTILINE):
            codec(getattr(module, word))  # names are resolved while the module is known
        return module
    finally:
        del sys.modules["from_rust"]


def test_structs_tuple_structs_and_enums() -> None:
    with pytest.raises(ValueError, match="the name 'class' is not allowed"):
        python_of_rust(LIB.replace("r#type", "r#class"))
    made = loaded(python_of_rust(LIB))
    assert codec(made.Everything).schema.text == EVERYTHING
    assert codec(made.Point).schema == codec(vector_types.Point).schema
    assert codec(made.Path_).schema == codec(vector_types.Path_).schema
    assert codec(made.Everything).schema.hash == made.SCHEMA_HASH


EVERYTHING = """\
deli 1
root Everything
struct Everything
 type bytes
 shape Shape
 color Color
 fixed [u16;1000]
 maybe (bool,str)?
 next Everything?
 unit ()
 all [Pair]
 empty Empty
 path Path_
sealed Shape
 0 Circle
  radius f32
 1 Rectangle
  f0 f32
  f1 f32
 2 Dot
enum Color
 0 Red
 1 Green
 2 Blue
struct Pair
 f0 u8
 f1 i64
struct Empty
struct Path_
 points [Point]
 tags [str]
 grid [[u16]]
struct Point
 x f32
 y f32
"""


def test_several_roots_have_no_hash() -> None:
    text = python_of_rust("#[derive(Codec)] struct A { x: u8 }\n#[derive(Codec)] struct B(A);\n"
                          "#[derive(Codec)] enum C { X, Y }")  # fmt: skip
    assert "SCHEMA_HASH" not in text
    made = loaded(text)
    assert made.B(made.A(7)).to_bytes() == b"\7" and made.C.Y.value == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#[derive(Codec)]\nstruct A<T> { x: T }", "line 2: A has generics"),
        ("#[derive(Codec)]\nstruct A { x: usize }", "line 2: usize is no type that a schema can express"),
        ("#[derive(Codec)]\nstruct A { x: HashMap<u8, u8> }", "HashMap<u8, u8> is no type"),
        ("#[derive(Codec)]\nstruct A { x: &'static str }", "is no type that a schema can express"),
        ("#[derive(Codec)]\nstruct A { x: [u8; N] }", "is no type that a schema can express"),
        ("#[derive(Codec)]\nstruct A { x: B }", "A holds B, which does not derive Codec"),
        ("#[derive(Codec)]\nenum A {}", "A has no variants"),
        ("#[derive(Debug)]\nstruct A;", "no type in it derives Codec"),
        ("struct A {", "is no Rust"),
    ],
)
def test_what_cannot_be_is_refused(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lib.rs"
    path.write_text(text)
    assert main(["gen", "python", str(path)]) == 2
    assert words in capsys.readouterr().err


def test_the_command(tmp_path: Path) -> None:
    path, out = tmp_path / "lib.rs", tmp_path / "types.py"
    path.write_text("#[derive(Codec)]\nstruct A { x: u8 }\n")
    assert main(["gen", "python", str(path), "-o", str(out)]) == 0
    assert "class A(Codec):\n    x: u8\n" in out.read_text()
    assert main(["gen", "python", str(path), "-o", str(out), "--check"]) == 0
