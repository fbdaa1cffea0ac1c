"""Generated Rust: the same values, bytes, errors and offsets as Python's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import rust_program
import vector_types
from compared import compare, vectors
from random_schemas import FIXED, GOLDEN, Case
from toolchains import FULL, tool

from deli_com import Schema, codec
from deli_com.gen import rust


def run(folder: Path, schemas: list[Schema], lines: list[str]) -> list[str]:
    """Compile the program, give it the lines, return those that it prints."""
    main = rust_program.write(folder, schemas)
    subprocess.run(
        [tool("rustc"), "--edition", "2021", "-D", "warnings", "-A", "non_snake_case",
         "-o", "main", main.name],
        cwd=folder, check=True,
    )  # fmt: skip
    text = "".join(line + "\n" for line in lines)
    done = subprocess.run([str(folder / "main")], input=text, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.timeout(3600 if FULL else 900)  # the compiler takes its time
def test_values_and_errors_are_pythons(tmp_path: Path, schemas: list[Schema], cases: list[Case]) -> None:
    compare(cases, run(tmp_path, schemas, [case.line for case in cases]))


@pytest.mark.timeout(900)
def test_the_rust_crates_vectors(tmp_path: Path) -> None:
    found, lines, check = vectors()
    check(run(tmp_path, found, lines))


def test_rustfmt_leaves_it_as_it_is(tmp_path: Path, schemas: list[Schema]) -> None:
    texts = [rust(schema) for schema in schemas]
    texts.append(rust(Schema.parse(GOLDEN), codec(vector_types.Drawing).schema))
    for i, text in enumerate(texts):
        (tmp_path / f"s{i}.rs").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [tool("rustfmt"), "--edition", "2021", "--check", *(f"s{i}.rs" for i in range(len(texts)))],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "" and done.returncode == 0


def test_the_same_schema_gives_the_same_file() -> None:
    for text in FIXED:
        assert rust(Schema.parse(text)) == rust(Schema.parse(text))


def test_large_fixed_arrays_are_not_on_the_stack(tmp_path: Path) -> None:
    schema = Schema.parse("deli 1\nroot Big\nstruct Big\n a [f64;2000000]\n")
    (tmp_path / "wire.rs").write_text(rust(schema), encoding="utf-8")
    (tmp_path / "main.rs").write_text(
        "mod wire;\nfn main() {\n    let data = vec![0; 16_000_000];\n"
        "    let value = wire::Big::from_bytes(&data).unwrap();\n"
        '    println!("{} {}", value.a.len(), value.to_bytes() == data);\n}\n'
    )
    subprocess.run([tool("rustc"), "--edition", "2021", "-o", "main", "main.rs"], cwd=tmp_path, check=True)
    done = subprocess.run([str(tmp_path / "main")], check=True, capture_output=True, text=True)
    assert done.stdout == "2000000 true\n"
