"""Generated Dart, parsed with tree-sitter. There is no Dart SDK here; dart.yml runs the code.

The interface is that of the Rust crates' ``Dart`` derive: ``fromBin``, ``decode``, ``toBin``, ``encode``,
and ``NameVariant`` for a variant.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dart_program
import pytest
import tree_sitter
import tree_sitter_dart
from random_schemas import FIXED, GOLDEN, LIMITS

from deli_com import Codec, Schema, codec, u8
from deli_com.gen import dart

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_dart.language()))


def parsed(text: str) -> Any:
    """The tree of a file; an error or a missing token in it fails."""
    tree = PARSER.parse(text.encode())
    if tree.root_node.has_error:
        todo, wrong = [tree.root_node], []
        while todo:
            node = todo.pop()
            wrong += [node.start_point[0]] * (node.is_error or node.is_missing)
            todo += node.children
        raise AssertionError([text.splitlines()[line] for line in sorted(wrong)[:3]])
    return tree.root_node


def words(node: Any) -> str:
    return re.sub(r"\s+", " ", node.text.decode())


def classes(text: str) -> dict[str, list[str]]:
    """Each class and enum with its base, fields and members, as one reads them."""
    found: dict[str, list[str]] = {}
    for node in parsed(text).children:
        if node.type not in ("class_definition", "enum_declaration"):
            continue
        name = next(child for child in node.children if child.type == "identifier").text.decode()
        head = words(node).split("{")[0].strip()
        lines = [head]
        body = next(child for child in node.children if child.type in ("class_body", "enum_body"))
        for member in body.children:
            if member.type in ("declaration", "method_signature"):
                lines.append(words(member))
            elif member.type == "enum_constant":
                lines.append(member.text.decode())
        found[name] = lines
    return found


def surface(name: str) -> list[str]:
    return [
        f"factory {name}.fromBin(Uint8List bytes)",
        f"static ({name}, int) decode(ByteData bd, Uint8List buf, int offset)",
        "Uint8List toBin()",
        "void encode(BytesBuilder builder)",
    ]


def test_the_grammar_takes_it(schemas: list[Schema]) -> None:
    for schema in schemas:
        parsed(dart(schema))
    with pytest.raises(AssertionError):
        parsed(dart(schemas[0]).replace("final r =", "final = r"))


def test_the_surface_is_that_of_the_rust_crates() -> None:
    text = "deli 1\nroot ToMonitor\nsealed ToMonitor\n 0 Jpeg\n  f0 bytes\n"
    found = classes(dart(Schema.parse(text)))
    assert found["ToMonitor"] == ["sealed class ToMonitor", "const ToMonitor()", *surface("ToMonitor")]
    assert found["ToMonitorJpeg"] == [
        "class ToMonitorJpeg extends ToMonitor",
        "final Uint8List f0",
        "const ToMonitorJpeg({ required this.f0, })",
    ]


def test_the_structure_of_every_kind() -> None:
    found = classes(dart(Schema.parse(GOLDEN)))
    assert found["MessagePose"][1:5] == [
        "final String robot",
        "final Point at",
        "final Float32List trace",
        "final Side? side",
    ]
    assert found["Point"] == [
        "class Point",
        "final double x",
        "final double y",
        "const Point({ required this.x, required this.y, })",
        *surface("Point"),
    ]
    assert found["Side"] == ["enum Side", "BUY", "SELL", *surface("Side")]
    limits = classes(dart(Schema.parse(LIMITS)))
    assert limits["Limits"][1:11] == [
        "final int a",
        "final int b",
        "final List<int> c",
        "final List<int> d",
        "final double e",
        "final (double, String, Uint8List) f",
        "final List<(int, bool)?> g",
        "final List<Uint8List> h",
        "final List<Nothing> i",
        "final () j",
    ]
    assert limits["Nothing"][:2] == ["class Nothing", "const Nothing()"]


def test_every_class_is_there(schemas: list[Schema]) -> None:
    for schema in schemas:
        found = classes(dart(schema))
        count = sum(1 + len(getattr(each, "variants", ())) for each in schema.tree.definitions)
        assert len([name for name in found if not name.startswith("_")]) in (count + 6, count + 7)


def test_names_that_dart_keeps() -> None:
    text = "deli 1\nroot List\nstruct List\n class u8\n _x u8\n x_ u8\n int Point\n toBin u8\n List u8\n"
    text += "struct Point\n Point u8\n hashCode u8\n"
    found = classes(dart(Schema.parse(text)))
    assert found["List_"][1:7] == [
        "final int class_",
        "final int x__",
        "final int x_",
        "final Point int_",
        "final int toBin_",
        "final int List__",
    ]
    assert found["Point"][1:3] == ["final int Point_", "final int hashCode_"]


def test_docstrings_and_the_text() -> None:
    text = dart(codec(Documented).schema)
    assert "/// Höhe über dem Meer.\nclass Documented {" in text
    assert f"const String SCHEMA_TEXT = '''\n{codec(Documented).schema.text}''';" in text


def test_the_same_schema_gives_the_same_file() -> None:
    for text in FIXED:
        assert dart(Schema.parse(text)) == dart(Schema.parse(text))


def test_the_package_for_the_workflow(tmp_path: Path) -> None:
    dart_program.main(tmp_path)
    text = (tmp_path / "test" / "vectors_test.dart").read_text()
    parsed(text)
    assert text.count("\n  (") > 85 + 100
    for path in (tmp_path / "lib").iterdir():
        parsed(path.read_text())


class Documented(Codec):
    """Höhe über dem Meer."""

    height: u8
