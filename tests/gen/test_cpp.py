"""Generated C++17: the same values, bytes, errors and offsets as Python's, under ASan and UBSan."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cpp_program
import pytest
import vector_types
from compared import compare, vectors
from random_schemas import FIXED, Case
from toolchains import FULL, tool

from deli_com import Codec, Schema, codec, u8
from deli_com.gen import cpp

SCRIPTS = sysconfig.get_path("scripts")  # clang-format is a package of the group test
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-O0"]
SANITIZED = [*FLAGS, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def run(folder: Path, schemas: list[Schema], lines: list[str], together: int = 1) -> list[str]:
    """Compile the program, a file for so many schemas; give it the lines, return what it prints."""
    names = cpp_program.write(folder, schemas, together)
    compiler = [tool("g++"), *SANITIZED]

    def compiled(name: str) -> str:
        subprocess.run([*compiler, "-c", f"{name}.cpp"], cwd=folder, check=True)
        return f"{name}.o"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, names))
    subprocess.run([*compiler, "-o", "main", *objects], cwd=folder, check=True)
    text = "".join(line + "\n" for line in lines)
    done = subprocess.run([str(folder / "main")], input=text, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.timeout(3600 if FULL else 900)  # the compiler takes its time
def test_values_and_errors_are_pythons(tmp_path: Path, schemas: list[Schema], cases: list[Case]) -> None:
    few = schemas if FULL else [*schemas[:4], *schemas[5:12]]  # without that of 300 variants
    places = [schemas.index(schema) for schema in few]
    some = [case for case in cases if case.schema in places]
    lines = [f"{places.index(case.schema)} {case.data.hex()}" for case in some]
    compare(some, run(tmp_path, few, lines, together=8 if FULL else 6))


@pytest.mark.timeout(900)
def test_the_rust_crates_vectors(tmp_path: Path) -> None:
    found, lines, check = vectors()
    check(run(tmp_path, found, lines, together=17))


@pytest.mark.skipif(shutil.which("clang-format", path=SCRIPTS) is None, reason="clang-format is not there")
def test_clang_format_leaves_it_as_it_is(tmp_path: Path, schemas: list[Schema]) -> None:
    """Google's style with 100 columns and one operand a line."""
    texts = [cpp(schema) for schema in schemas]
    texts.append(cpp(codec(Documented).schema, codec(vector_types.Drawing).schema, namespace="a::b"))
    for i, text in enumerate(texts):
        (tmp_path / f"s{i}.hpp").write_text(text, encoding="utf-8")
    style = "{BasedOnStyle: Google, ColumnLimit: 100, BreakBinaryOperations: OnePerLine}"
    subprocess.run(
        [str(Path(SCRIPTS) / "clang-format"), f"--style={style}", "--dry-run", "--Werror",
         *(f"s{i}.hpp" for i in range(len(texts)))],
        cwd=tmp_path, check=True,
    )  # fmt: skip


def test_the_same_schema_gives_the_same_file() -> None:
    for text in FIXED:
        assert cpp(Schema.parse(text)) == cpp(Schema.parse(text))


def test_a_namespace_is_a_name() -> None:
    schema = Schema.parse("deli 1\nroot u8\n")
    assert "namespace a::b {" in cpp(schema, namespace="a::b")
    for wrong in ("", "a b", "a::", "class"):
        with pytest.raises(ValueError, match=r"namespace|keyword"):
            cpp(schema, namespace=wrong)


def test_default_values_and_errors(tmp_path: Path) -> None:
    (tmp_path / "wire.hpp").write_text(cpp(Schema.parse(FIXED[1])), encoding="utf-8")
    (tmp_path / "main.cpp").write_text(
        '#include <cstdio>\n#include "wire.hpp"\n'
        "int main() {\n"
        "  wire::Tree tree, again;\n"
        "  const auto bytes = wire::to_bytes(tree);\n"
        "  const auto error = wire::from_bytes(bytes.data(), bytes.size(), again);\n"
        "  const auto short_ = wire::from_bytes(bytes.data(), 3, again);\n"
        '  std::printf("%zu %d %d %zu %s\\n", bytes.size(), bool(error), '
        "bool(short_), short_.offset, short_.what());\n"
        "}\n"
    )
    subprocess.run([tool("g++"), *FLAGS, "-o", "main", "main.cpp"], cwd=tmp_path, check=True)
    done = subprocess.run([str(tmp_path / "main")], check=True, capture_output=True, text=True)
    assert done.stdout == "17 0 1 0 unexpected end of buffer\n"


class Documented(Codec):
    """Höhe über dem Meer: a docstring whose first line is longer than a line of the header may be, at all.

    A second paragraph whose line is too long, too, so that its last words are moved to the line that goes on
    with it. And a path that ends in a backslash: C:\\
    """

    height: u8
