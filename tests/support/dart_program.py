"""A Dart package that decodes inputs by generated code and encodes again: ``python dart_program.py FOLDER``.

No Dart SDK is on the machines of this project: the workflow `dart.yml` runs what this writes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from compared import vectors
from random_schemas import Case, Values, cases, outcome, schemas

from deli_com import Schema
from deli_com.gen import dart
from deli_com.schema.tree import Ref

PUBSPEC = """name: generated
publish_to: none
environment:
  sdk: ^3.5.0
dev_dependencies:
  test: ^1.25.0
"""
HEAD = """import 'dart:typed_data';

import 'package:test/test.dart';
"""
DRIVER = """
Uint8List bytesOf(String hex) => Uint8List.fromList([
      for (var i = 0; i < hex.length; i += 2)
        int.parse(hex.substring(i, i + 2), radix: 16),
    ]);

String hexOf(Uint8List bytes) =>
    [for (final byte in bytes) byte.toRadixString(16).padLeft(2, '0')].join();

/// The bytes again, or the class of the error and its offset.
String outcome(Uint8List Function(Uint8List) again, String hex) {
  // At an odd offset of its buffer.
  final bytes = Uint8List.sublistView(bytesOf('00$hex'), 1);
  try {
    return 'ok ${hexOf(again(bytes))}';
  } on FormatException catch (error) {
    return '${error.runtimeType} ${error.offset}';
  }
}

void main() {
  for (final (schema, hex, expected) in cases) {
    test('$schema $hex', () => expect(outcome(again[schema], hex), expected));
  }
}
"""


def root_name(text: str, schema: Schema) -> str:
    """What the generator calls the root."""
    found = re.findall(r"factory (\w+)\.fromBin", text)
    return found[0 if isinstance(schema.tree.root, Ref) else -1]


def _said(case: Case) -> str:
    first, second, *_ = case.expected.split(" ")
    return f"{first} {second}"


def write(folder: Path, schemas: list[Schema], cases: list[tuple[int, str, str]]) -> None:
    """A package: `cases` are places of a schema, inputs in hexadecimal, and what is made of them."""
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    (folder / "test").mkdir(exist_ok=True)
    (folder / "pubspec.yaml").write_text(PUBSPEC)
    imports, again = "", ""
    for i, schema in enumerate(schemas):
        text = dart(schema)
        (folder / "lib" / f"s{i}.dart").write_text(text, encoding="utf-8")
        imports += f"import 'package:generated/s{i}.dart' as s{i};\n"
        again += f"  (bytes) => s{i}.{root_name(text, schema)}.fromBin(bytes).toBin(),\n"
    lines = "".join(f"  ({place}, '{data}', '{expected}'),\n" for place, data, expected in cases)
    program = (
        f"{HEAD}{imports}\nfinal List<Uint8List Function(Uint8List)> again = [\n{again}];\n\n"
        f"const List<(int, String, String)> cases = [\n{lines}];\n{DRIVER}"
    )
    (folder / "test" / "vectors_test.dart").write_text(program, encoding="utf-8")


def main(folder: Path) -> None:
    """The vectors of the Rust crates, schemas at random, and mutated values of them."""
    found, lines, _ = vectors()
    some = schemas(20)
    inputs = [(int(line.split(" ")[0]), line.split(" ")[1]) for line in lines]
    values = [Values(schema) for schema in found]
    known = [(place, bytes.fromhex(data)) for place, data in inputs]
    made = [
        (place, data.hex(), _said(Case(place, data, outcome(values[place], data)))) for place, data in known
    ]
    for each in cases(some, 4, 4):
        made.append((len(found) + each.schema, each.data.hex(), _said(each)))
    # NaN may have other bits: such inputs are left out.
    write(folder, [*found, *some], [each for each in made if not each[2].endswith(" -")])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
