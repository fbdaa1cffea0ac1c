"""Schemas to Dart 3: one file without a package, with the interface of the Rust crates' ``Dart`` derive."""

from __future__ import annotations

from collections.abc import Iterable

from deli_com.gen.plan import MAX_EMPTY, Names, Plan, Spelling, runtime, summary
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

__all__ = ["dart"]

_KEYWORDS = """
abstract as assert async await base break case catch class const continue covariant default deferred do
dynamic else enum export extends extension external factory false final finally for Function get hide if
implements import in interface is late library mixin new null of on operator part required rethrow return
sealed set show static super switch sync this throw true try type typedef var void when while with yield
"""
_USED = """
ByteData BytesBuilder DateTime Deprecated DecodeError EncodeError Endian Enum Error Exception Float32List
Float64List FormatException StateError Int16List Int32List Int8List InvalidBool InvalidUtf8 InvalidVariant
Iterable Iterator List Map Never Null Object Record Set String Type TypedData Uint16List Uint32List Uint8List
UnexpectedEof bool double int num utf8 override identical print main SCHEMA_HASH SCHEMA_TEXT UP_SCHEMA_HASH
UP_SCHEMA_TEXT
"""
# Members that every class of the file has, and names that its methods use.
_MEMBERS = """
fromBin toBin decode encode hashCode runtimeType toString noSuchMethod bytes bd buf offset builder r w v
values index name value1
"""
_SCALARS = {"bool": ("bool", "flag"), "str": ("String", "text"), "bytes": ("Uint8List", "data")}
_SCALARS |= {f"{letter}{bits}": ("int", f"{letter}{bits}") for letter in "ui" for bits in (8, 16, 32, 64)}
_SCALARS |= {"f32": ("double", "f32"), "f64": ("double", "f64")}
# Lists of 64-bit integers do not exist on the web.
_ARRAYS = {
    "u8": "Uint8List",
    "u16": "Uint16List",
    "u32": "Uint32List",
    "i8": "Int8List",
    "i16": "Int16List",
    "i32": "Int32List",
    "f32": "Float32List",
    "f64": "Float64List",
}


def dart(schema: Schema, up: Schema | None = None) -> str:
    """Write a schema as Dart 3: a file that needs no package.

    It has ``Name.fromBin(bytes)``, ``toBin()``, ``Name.decode(bd, buf, offset)`` and ``encode(builder)`` for
    each type, variants as ``NameVariant``, ``SCHEMA_HASH`` and ``SCHEMA_TEXT``.

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
    return _Dart(Plan.of(schema, up)).file()


class _Dart:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        # A name with a leading underscore is private in Dart, and cannot be a named parameter.
        self.spelling = Spelling(plan, [*_KEYWORDS.split(), *_USED.split()], _open)
        self.names = self.spelling.names
        self.fresh = 0

    def file(self) -> str:
        roots = [(self.spelling.roots[name], tp) for name, tp in self.plan.roots()]
        parts = [self.head()]
        parts += [self.declaration(each) for each in self.plan.definitions]
        parts += [self.cls(name, (Field("value", tp),), "/// A whole message.\n") for name, tp in roots]
        parts += [self.code(each) for each in self.plan.definitions]
        parts += [self.struct_code(name, (Field("value", tp),), False) for name, tp in roots]
        parts.append(runtime("core.dart"))
        return "\n".join(parts)

    def head(self) -> str:
        text = (
            f"// {summary(self.plan.schema)}: made by deli-com gen. Do not edit.\n"
            "// ignore_for_file: camel_case_types, constant_identifier_names, non_constant_identifier_names\n"
            "// ignore_for_file: unused_element\n\n"
            "import 'dart:convert';\nimport 'dart:typed_data';\n\n"
        )
        for prefix, each in (("", self.plan.schema), ("UP_", self.plan.up)):
            if each is not None:
                text += f"const String {prefix}SCHEMA_HASH = '{each.hash}';\n"
                text += f"const String {prefix}SCHEMA_TEXT = '''\n{each.text}''';\n"
        return text

    def attributes(self, names: Iterable[str], own: str) -> dict[str, str]:
        # A member with a type's name would hide that type in its class. Its class's name is an error.
        wanted = [*names]
        space = Names([*_KEYWORDS.split(), *_USED.split(), *_MEMBERS.split(), *self.spelling.types(), own])
        renamed = {name: _open(name) for name in wanted}
        kept = space.reserve_all([name for name in wanted if renamed[name] == name])
        rest = Names({*space.taken, *kept.values()})
        return {name: kept[name] if name in kept else rest.reserve(renamed[name]) for name in wanted}

    def doc(self, name: str) -> str:
        return "".join(f"/// {line}".rstrip() + "\n" for line in self.plan.docs.get(name, "").splitlines())

    def type_of(self, tp: Type) -> str:
        match tp:
            case Scalar(name):
                return _SCALARS[name][0]
            case Ref(name):
                return self.names[name]
            case Option(item):
                return f"{self.type_of(item)}?"
            case List(item) | Fixed(item, _):
                return _array_of(item) or f"List<{self.type_of(item)}>"
            case Product(items):
                inner = ", ".join(map(self.type_of, items))
                return f"({inner},)" if len(items) == 1 else f"({inner})"

    # --- classes ---

    def declaration(self, each: Struct | Sealed | Enum) -> str:
        name = self.names[each.name]
        if isinstance(each, Struct):
            return self.cls(name, each.fields, self.doc(each.name))
        if isinstance(each, Enum):
            members = self.attributes(each.members, name)
            body = ",\n".join(f"  {members[member]}" for member in each.members)
            return f"{self.doc(each.name)}enum {name} {{\n{body};\n\n{self.surface(name)}}}\n"
        found = [
            f"{self.doc(each.name)}sealed class {name} {{\n  const {name}();\n\n{self.surface(name)}}}\n"
        ]
        for variant in each.variants:
            own = self.spelling.variants[each.name, variant.name]
            found.append(f"class {own} extends {name} {{\n{self.fields(own, variant.fields)}}}\n")
        return "\n".join(found)

    def cls(self, name: str, fields: tuple[Field, ...], doc: str) -> str:
        return f"{doc}class {name} {{\n{self.fields(name, fields)}\n{self.surface(name)}}}\n"

    def fields(self, name: str, fields: tuple[Field, ...]) -> str:
        if not fields:
            return f"  const {name}();\n"
        names = self.attributes((field.name for field in fields), name)
        lines = "".join(f"  final {self.type_of(each.type)} {names[each.name]};\n" for each in fields)
        taken = "".join(f"    required this.{names[each.name]},\n" for each in fields)
        return f"{lines}\n  const {name}({{\n{taken}  }});\n"

    @staticmethod
    def surface(name: str) -> str:
        return (
            f"  /// Decode a value; bytes after it are ignored. Throws [DecodeError].\n"
            f"  factory {name}.fromBin(Uint8List bytes) =>\n"
            f"      decode(ByteData.sublistView(bytes), bytes, 0).$1;\n\n"
            f"  /// Decode the value at `offset`; also gives the offset of its end.\n"
            f"  static ({name}, int) decode(ByteData bd, Uint8List buf, int offset) {{\n"
            f"    final r = _Reader(bd, buf, offset);\n"
            f"    return (_read{name}(r), r.at);\n  }}\n\n"
            f"  /// Encode the value. Throws [EncodeError].\n"
            f"  Uint8List toBin() {{\n    final w = _Writer();\n    _write{name}(w, this);\n"
            f"    return w.done();\n  }}\n\n"
            f"  void encode(BytesBuilder builder) => builder.add(toBin());\n"
        )

    # --- reading and writing ---

    def code(self, each: Struct | Sealed | Enum) -> str:
        name = self.names[each.name]
        again = each.name in self.plan.recursive
        if isinstance(each, Struct):
            return self.struct_code(name, each.fields, again)
        if isinstance(each, Enum):
            return (
                f"{name} _read{name}(_Reader r) => {name}.values[r.index({len(each.members)})];\n\n"
                f"void _write{name}(_Writer w, {name} v) => w.raw32(v.index);\n"
            )
        reads, writes = "", ""
        for i, variant in enumerate(each.variants):
            own = self.spelling.variants[each.name, variant.name]
            reads += f"    case {i}:\n      found = {self.literal(own, variant.fields, '      ')};\n"
            wrote = self.write_fields(own, variant.fields, "      ")
            writes += f"    case {own}():\n      w.raw32({i});\n{wrote}"
        enter, leave = ("  r.enter();\n", "  r.leave();\n") if again else ("", "")
        enter_w, leave_w = (f"  w.enter('{name}');\n", "  w.leave();\n") if again else ("", "")
        return (
            f"{name} _read{name}(_Reader r) {{\n{enter}  final {name} found;\n"
            f"  switch (r.index({len(each.variants)})) {{\n{reads}    default:\n"
            f"      throw StateError('unreachable');\n  }}\n{leave}  return found;\n}}\n\n"
            f"void _write{name}(_Writer w, {name} v) {{\n{enter_w}  switch (v) {{\n{writes}  }}\n"
            f"{leave_w}}}\n"
        )

    def struct_code(self, name: str, fields: tuple[Field, ...], again: bool) -> str:
        made = self.literal(name, fields, "  ")
        body = f"  return {made};\n"
        if again:
            body = f"  r.enter();\n  final found = {made};\n  r.leave();\n  return found;\n"
        enter, leave = (f"  w.enter('{name}');\n", "  w.leave();\n") if again else ("", "")
        return (
            f"{name} _read{name}(_Reader r) {{\n{body}}}\n\n"
            f"void _write{name}(_Writer w, {name} v) {{\n{enter}"
            f"{self.write_fields(name, fields, '  ')}{leave}}}\n"
        )

    def literal(self, name: str, fields: tuple[Field, ...], indent: str) -> str:
        if not fields:
            return f"const {name}()"
        names = self.attributes((field.name for field in fields), name)
        lines = "".join(f"{indent}  {names[each.name]}: {self.read(each.type)},\n" for each in fields)
        return f"{name}(\n{lines}{indent})"

    def read(self, tp: Type) -> str:
        match tp:
            case Scalar(name):
                return f"r.{_SCALARS[name][1]}()"
            case Ref(name):
                return f"_read{self.names[name]}(r)"
            case Option(item):
                return f"r.flag() ? {self.read(item)} : null"
            case Product(items):
                inner = ", ".join(map(self.read, items))
                return f"({inner},)" if len(items) == 1 else f"({inner})"
            case List(item) | Fixed(item, _):
                least, array = self.plan.least(item), _array_of(item)
                whole = f"{self.plan.least(tp)}" if isinstance(tp, Fixed) else f"{least} * r.count({least})"
                if array is not None:
                    copy = f"r.copy({whole})"
                    return copy if array == "Uint8List" else f"{array}.sublistView({copy})"
                one = (
                    f"_read{self.names[item.name]}" if isinstance(item, Ref) else f"(r) => {self.read(item)}"
                )
                if isinstance(tp, Fixed):
                    return f"r.fixed<{self.type_of(item)}>({tp.count}, {whole}, {one})"
                return f"r.list<{self.type_of(item)}>({least}, {one})"

    def write_fields(self, name: str, fields: tuple[Field, ...], indent: str) -> str:
        self.fresh = 0
        names = self.attributes((field.name for field in fields), name)
        return "".join(
            self.write(each.type, f"v.{names[each.name]}", f"'{name}.{each.name}'", indent) for each in fields
        )

    def write(self, tp: Type, v: str, path: str, indent: str) -> str:
        match tp:
            case Scalar(name):
                return f"{indent}w.{_SCALARS[name][1]}({v}, {path});\n"
            case Ref(name):
                return f"{indent}_write{self.names[name]}(w, {v});\n"
            case Option(item):
                one = self.name("o")
                return (
                    f"{indent}final {one} = {v};\n{indent}w.raw8({one} == null ? 0 : 1);\n"
                    f"{indent}if ({one} != null) {{\n{self.write(item, one, path, indent + '  ')}{indent}}}\n"
                )
            case Product(items):
                found = ""
                for i, item in enumerate(items):
                    found += self.write(item, f"{v}.${i + 1}", path, indent)
                return found
            case List(item):
                most = MAX_EMPTY if self.plan.least(item) == 0 else 4294967295
                return f"{indent}w.count({v}.length, {most}, {path});\n" + self.elements(
                    item, v, path, indent
                )
            case Fixed(item, count):
                return f"{indent}w.exactly({v}.length, {count}, {path});\n" + self.elements(
                    item, v, path, indent
                )

    def elements(self, item: Type, v: str, path: str, indent: str) -> str:
        if _array_of(item) is not None:
            return f"{indent}w.numbers({v});\n"
        one = self.name("e")
        return (
            f"{indent}for (final {one} in {v}) {{\n{self.write(item, one, path, indent + '  ')}{indent}}}\n"
        )

    def name(self, letter: str) -> str:
        self.fresh += 1
        return f"{letter}{self.fresh}"


def _array_of(item: Type) -> str | None:
    return _ARRAYS.get(item.name) if isinstance(item, Scalar) else None


def _open(name: str) -> str:
    # Without leading underscores, which make a name private.
    bare = name.lstrip("_")
    if bare == name:
        return name
    return f"{bare}_" if bare[:1].isalpha() else f"x{bare}_"
