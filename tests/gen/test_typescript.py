"""Generated TypeScript: the same values, bytes, errors and offsets as Python's."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import browser
import pytest
import ts_program
import vector_types
from compared import compare, vectors
from folder_server import files
from random_schemas import GOLDEN, Case
from toolchains import FULL, npm, tool

from deli_com import Codec, Schema, codec, f32, u8, u16, u64
from deli_com.gen import typescript

TSC = [
    "--strict",
    "--noUncheckedIndexedAccess",
    "--noUnusedLocals",
    "--noUnusedParameters",
    "--target",
    "es2022",
    "--module",
    "es2022",
    "--moduleResolution",
    "bundler",
    "--noEmit",
]


def run_node(folder: Path, lines: list[str]) -> list[str]:
    (folder / "input.txt").write_text("".join(line + "\n" for line in lines))
    subprocess.run([tool("node"), "main.mjs"], cwd=folder, check=True)
    return (folder / "output.txt").read_text().splitlines()


@pytest.mark.timeout(900)  # DELI_COM_GEN_FULL=1: 200 schemas
def test_values_and_errors_are_pythons(tmp_path: Path, schemas: list[Schema], cases: list[Case]) -> None:
    ts_program.write(tmp_path, schemas)
    compare(cases, run_node(tmp_path, [case.line for case in cases]))


def run_chromium(folder: Path, lines: list[str]) -> list[str]:
    modules = npm("playwright-core")
    (folder / "input.txt").write_text("".join(line + "\n" for line in lines))
    (folder / "browser.mjs").write_text(ts_program.BROWSER.replace("@MODULES@", str(modules)))
    executable = shutil.which(browser.program())
    assert executable is not None
    with files(folder) as site:
        subprocess.run([tool("node"), "browser.mjs", executable, f"{site}/page.html"], cwd=folder, check=True)
    return (folder / "output.txt").read_text().splitlines()


@pytest.mark.timeout(900)
def test_values_and_errors_are_pythons_in_chromium(
    tmp_path: Path, schemas: list[Schema], cases: list[Case]
) -> None:
    ts_program.write(tmp_path, schemas)
    compare(cases, run_chromium(tmp_path, [case.line for case in cases]))


@pytest.mark.timeout(900)
def test_the_compiler_takes_it_under_strict(tmp_path: Path, schemas: list[Schema]) -> None:
    modules = npm("typescript")
    ts_program.write(tmp_path, schemas)
    files = [f"s{i}.ts" for i in range(len(schemas))]
    done = subprocess.run(
        [tool("node"), str(modules / "typescript" / "bin" / "tsc"), *TSC, *files],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "" and done.returncode == 0


def test_esbuild_makes_the_same_program_of_the_types(
    tmp_path: Path, schemas: list[Schema], cases: list[Case]
) -> None:
    modules = npm("esbuild")
    few = schemas[:8]
    ts_program.write(tmp_path, few)
    for i in range(len(few)):
        subprocess.run(
            [str(modules / ".bin" / "esbuild"), f"s{i}.ts", "--format=esm", f"--outfile=s{i}.mjs",
             "--allow-overwrite", "--log-level=error"],
            cwd=tmp_path, check=True,
        )  # fmt: skip
    some = [case for case in cases if case.schema < len(few)]
    compare(some, run_node(tmp_path, [case.line for case in some]))


def test_the_rust_crates_vectors(tmp_path: Path) -> None:
    found, lines, check = vectors()
    ts_program.write(tmp_path, found)
    check(run_node(tmp_path, lines))


def node(tmp_path: Path, schema: Schema, program: str, **options: object) -> object:
    """Run statements with a generated module as `m`; what they put into `out`."""
    (tmp_path / "m.mjs").write_text(typescript(schema, js=True, **options), encoding="utf-8")  # type: ignore[arg-type]
    (tmp_path / "run.mjs").write_text(
        f'import * as m from "./m.mjs";\nlet out = null;\n'
        "const failed = (f) => { try { f(); return null; } "
        "catch (e) { return `${e.name}: ${e.message}`; } };\n"
        f"{program}\nconsole.log(JSON.stringify(out));\n",
        encoding="utf-8",
    )
    done = subprocess.run([tool("node"), "run.mjs"], cwd=tmp_path, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_the_encoder_refuses_what_does_not_fit(tmp_path: Path) -> None:
    found = node(
        tmp_path,
        codec(Refusing).schema,
        """
        const good = { a: 1, b: [1, 2], c: 5n, d: 1.5, e: "x", f: true, g: null, h: new Uint16Array([7]) };
        const bad = [["a", 256], ["a", 1.5], ["a", "1"], ["a", NaN], ["b", [1]], ["b", [1, 300]], ["c", 5],
          ["c", 2n ** 64n], ["c", -1n], ["d", 1e39], ["d", "1"], ["e", "\\ud800"], ["e", 1], ["f", 1],
          ["g", 300], ["h", 5], ["h", [65536]]];
        out = [failed(() => m.encodeRefusing(good)), ...bad.map(([k, v]) =>
          failed(() => m.encodeRefusing({ ...good, [k]: v })))];
        """,
    )
    assert isinstance(found, list) and found[0] is None
    assert all(
        isinstance(text, str) and text.startswith("EncodeError: encode error: Refusing.")
        for text in found[1:]
    )


def test_numbers_in_place_of_bigints_end_at_2_to_the_53(tmp_path: Path) -> None:
    schema = Schema.parse("deli 1\nroot A\nstruct A\n a u64\n b [i64]\n")
    found = node(
        tmp_path,
        schema,
        """
        const bytes = m.encodeA({ a: 2 ** 53 - 1, b: [-5, 6] });
        const big = new Uint8Array(12);
        big[7] = 255;
        out = [m.decodeA(bytes), failed(() => m.decodeA(big)),
          failed(() => m.encodeA({ a: 2 ** 53, b: [] }))];
        """,
        u64="number",
    )
    assert found == [
        {"a": 2**53 - 1, "b": [-5, 6]},
        f"DecodeError: decode error: {0xFF << 56} is beyond 2^53 (byte 0)",
        "EncodeError: encode error: A.a: 9007199254740992 is no integer within 2^53",
    ]


def test_bytes_after_the_value(tmp_path: Path) -> None:
    found = node(
        tmp_path,
        Schema.parse("deli 1\nroot u8\n"),
        "const b = new Uint8Array([7, 8]);"
        "out = [m.decodeRoot(b), m.decodeRoot(b.buffer), failed(() => m.decodeRoot(b, true))];",
    )
    assert found == [7, 7, "DecodeError: decode error: 1 bytes after the value (byte 1)"]


def test_both_directions_and_names_in_both() -> None:
    down, up = codec(vector_types.Drawing).schema, codec(vector_types.Shape).schema
    text = typescript(down, up)
    assert f'export const UP_SCHEMA_HASH = "{up.hash}";' in text and text.count("function readShape(") == 1
    other = Schema.parse("deli 1\nroot Shape\nstruct Shape\n x u8\n")
    with pytest.raises(ValueError, match="Shape has another shape in what clients send"):
        typescript(down, other)


def test_docstrings_become_comments_and_the_text_is_there() -> None:
    text = typescript(codec(Documented).schema)
    assert "/**\n * Höhe */\n" not in text and " * Höhe über *\\/ dem Meer.\n" in text
    assert f"export const SCHEMA_TEXT = `{codec(Documented).schema.text}`;" in text
    assert typescript(codec(Documented).schema) == text


def test_prettier_leaves_it_as_it_is(tmp_path: Path, schemas: list[Schema]) -> None:
    modules = npm("prettier")
    up = codec(vector_types.Drawing).schema
    for end, js in ((".ts", False), (".mjs", True)):
        few = schemas if FULL else [*schemas[:4], *schemas[5:12]]  # without that of 300 variants
        texts = [typescript(schema, js=js) for schema in few]
        texts.append(typescript(Schema.parse(GOLDEN), up, js=js, client=True))
        for i, text in enumerate(texts):
            (tmp_path / f"s{i}{end}").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [tool("node"), str(modules / "prettier" / "bin" / "prettier.cjs"), "--check", "."],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:500]


class Refusing(Codec):
    a: u8
    b: tuple[u8, u8]
    c: u64
    d: f32
    e: str
    f: bool
    g: u8 | None
    h: list[u16]


class Documented(Codec):
    """A class with words.

    Höhe über */ dem Meer.
    """

    height: u8
