"""Schemas to TypeScript, or to JavaScript: the same file without types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile

from deli_com.gen.plan import MAX_EMPTY, Names, Plan, Spelling, runtime, summary
from deli_com.gen.ts_lines import (
    WIDTH,
    block,
    broken,
    call,
    constant_array,
    folded,
    typed,
    union,
    unmarked,
    untyped,
    unused,
)
from deli_com.schema.schema import Schema
from deli_com.schema.tree import (
    SIZES,
    Definition,
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

__all__ = ["generic_decoder", "typescript"]

_KEYWORDS = """
abstract any arguments as async await boolean break case catch class const continue debugger declare default
delete do else enum eval export extends false finally for from function get if implements import in infer
instanceof interface is keyof let module namespace never new null number object of package private protected
public readonly require return set static string super switch symbol this throw true try type typeof
undefined unique unknown var void while with yield bigint
"""
# Names that the file itself uses. A type with such a name would hide it.
_USED = """
Array ArrayBuffer ArrayLike AsyncIterable BigInt BigInt64Array BigUint64Array DataView DecodeError
EncodeError Error Float32Array Float64Array Function Generic Infinity Int16Array Int32Array Int8Array
InvalidBool InvalidUtf8 InvalidVariant JSON Map Math Number Object Promise Reader Record RegExp Set String
Symbol TextDecoder TextEncoder Uint16Array Uint32Array Uint8Array UnexpectedEof WebSocket Writer Client
ClientOptions SchemaError Socket Gap ClientState Waiting Resolver UnknownVariant Read Cell Items NumberArray
SchemaType SchemaField SchemaVariant SchemaDefinition AsyncGenerator ReturnType Iterable ReadonlySet viewOf
boolAt safe SCALAR_READERS NUMBER_ARRAYS INTEGERS_BIG SCHEMA_NAME SCHEMA_NOTE SCHEMA_ARGUMENT DUNDER
DEFINITION_LINE FIELD_LINE VARIANT_LINE RESERVED_NAMES CLIENT_UP_HASH CLIENT_UP_TEXT globalThis setTimeout
clearTimeout SCHEMA_HASH SCHEMA_TEXT UP_SCHEMA_HASH UP_SCHEMA_TEXT MAX_DEPTH MAX_EMPTY TOO_DEEP UTF8 TO_UTF8
"""
_ARRAYS = {
    "u8": "Uint8Array",
    "u16": "Uint16Array",
    "u32": "Uint32Array",
    "u64": "BigUint64Array",
    "i8": "Int8Array",
    "i16": "Int16Array",
    "i32": "Int32Array",
    "i64": "BigInt64Array",
    "f32": "Float32Array",
    "f64": "Float64Array",
}
_VIEWS = {name: array.removesuffix("Array") for name, array in _ARRAYS.items()}
_VIEWS |= {"u64": "BigUint64", "i64": "BigInt64"}


def typescript(
    schema: Schema,
    up: Schema | None = None,
    *,
    js: bool = False,
    u64: str = "bigint",
    generic: bool = False,
    client: bool = False,
) -> str:
    """Write a schema as TypeScript: one file without dependencies.

    It has an interface for each struct, unions whose ``kind`` is the variant, ``decodeName(bytes)`` and
    ``encodeName(value)`` for each type, ``SCHEMA_HASH`` and ``SCHEMA_TEXT``.

    Parameters
    ----------
    schema : Schema
        Schema of the values that the server sends.
    up : Schema, optional
        Schema of the values that clients send. ``UP_SCHEMA_HASH`` and ``UP_SCHEMA_TEXT`` are written for it.
    js : bool
        Write JavaScript: an ES module that browsers can load directly.
    u64 : {"bigint", "number"}
        The type of 64-bit integers. With ``number``, integers beyond 2^53 raise an error.
    generic : bool
        Add the class ``Generic``, which reads values of any schema by its text.
    client : bool
        Add the class ``Client``, a connection to a server of these values. This implies `generic`.

    Returns
    -------
    str
        The source text. Equal arguments give equal text.

    Raises
    ------
    ValueError
        A name is used in both schemas for different types.
    """
    if u64 not in ("bigint", "number"):
        raise ValueError(f"u64 must be 'bigint' or 'number', not {u64!r}")
    text = _TypeScript(Plan.of(schema, up), u64=u64, generic=generic or client, client=client).file()
    return untyped(text) if js else unmarked(text)


def generic_decoder() -> str:
    """Return the classes `Generic`, `Reader` and `Writer` in JavaScript, for a script that is no module."""
    text = "\n".join([runtime("core.ts"), runtime("generic.ts", big="true")])
    return re.sub(r"(?m)^export ", "", untyped(text))


class _TypeScript:
    def __init__(self, plan: Plan, *, u64: str, generic: bool, client: bool) -> None:
        self.plan = plan
        self.big = u64 == "bigint"
        self.generic = generic
        self.client = client
        spelling = Spelling(plan, [*_KEYWORDS.split(), *_USED.split()])
        self.names, self.roots, self.variants = spelling.names, spelling.roots, spelling.variants
        self.by_name = {each.name: each for each in plan.definitions}
        self.fresh = 0

    # --- the file ---

    def file(self) -> str:
        definitions = self.plan.definitions
        parts = [self.head()]
        parts += [self.declaration(each) for each in definitions]
        parts += [
            typed(f"export type {self.roots[name]} = {self.type_of(tp)};\n") for name, tp in self.plan.roots()
        ]
        parts += [self.code(each) for each in definitions]
        parts += [self.root_code(self.roots[name], tp) for name, tp in self.plan.roots()]
        plain = {
            self.names[each.name]: self.plan.sizes[each.name] for each in definitions if self.plain(each)
        }
        parts += [self.public(name, plain.get(name)) for name in [*self.names.values(), *self.roots.values()]]
        parts.append(runtime("core.ts"))
        if self.generic:
            parts.append(runtime("generic.ts", big="true" if self.big else "false"))
        if self.client:
            parts.append(self.client_code())
        return "\n".join(filter(None, parts))

    def head(self) -> str:
        lines = [f"// {summary(self.plan.schema)}: made by deli-com gen. Do not edit.\n"]
        for prefix, each in (("", self.plan.schema), ("UP_", self.plan.up)):
            if each is not None:
                lines.append(f'export const {prefix}SCHEMA_HASH = "{each.hash}";')
                lines.append(f"export const {prefix}SCHEMA_TEXT = `{each.text}`;")
        return "\n".join(lines) + "\n"

    def client_code(self) -> str:
        plan = self.plan
        tree = plan.schema.tree
        down = self.root_name(plan.schema, "Root")
        up = None if plan.up is None else self.root_name(plan.up, "UpRoot")
        hash_, text = ('"-"', '""') if up is None else ("UP_SCHEMA_HASH", "UP_SCHEMA_TEXT")
        words = "".join(f"  {word}\n" for word in folded(_KEYWORDS.split(), WIDTH - 2))
        # Without annotations these have literal types, and compilers report impossible comparisons.
        constants = (
            f"const CLIENT_UP_HASH{typed(': string')} = {hash_};\n"
            f"const CLIENT_UP_TEXT{typed(': string')} = {text};\n"
            f"const RESERVED_NAMES = `\n{words}`.match(/\\w+/g)!;\n".replace(")!;", f"){typed('!')};")
        )
        if up is None:
            constants += (
                f"function encodeNothing(_value{typed(': never')}){typed(': Uint8Array')} {{\n"
                '  throw new EncodeError("this server receives no values", "");\n}\n'
            )
        values = {
            "down": down,
            "up": up or "never",
            "decode": f"decode{down}",
            "encode": "encodeNothing" if up is None else f"encode{up}",
            "sealed": "true" if isinstance(self.definition(tree.root), Sealed) else "false",
        }
        return f"{constants}\n{runtime('client.ts', **values)}"

    def root_name(self, schema: Schema, name: str) -> str:
        root = schema.tree.root
        return self.names[root.name] if isinstance(root, Ref) else self.roots[name]

    def definition(self, tp: Type) -> Definition | None:
        return self.plan.schema.tree.by_name[tp.name] if isinstance(tp, Ref) else None

    # --- types ---

    def declaration(self, each: Struct | Sealed | Enum) -> str:
        name = self.names[each.name]
        doc = self.doc(each.name)
        if isinstance(each, Enum):
            body = union([f'"{member}"' for member in each.members], f"export type {name}")
            names = constant_array([f'"{member}"' for member in each.members], f"const {name}Names")
            return typed(f"{doc}{body}\n") + f"{names}\n"
        if isinstance(each, Struct):
            return typed(f"{doc}export interface {name} {{{block(self.members(each.fields))}}}\n")
        found = []
        for variant in each.variants:
            own = self.variants[each.name, variant.name]
            kind = f'  kind: "{variant.name}";\n'
            found.append(
                f"{self.doc(variant.name, each.name)}export interface {own} {{\n"
                f"{kind}{self.members(variant.fields, ('kind',))}}}\n"
            )
        own_names = [self.variants[each.name, variant.name] for variant in each.variants]
        found.append(f"{doc}{union(own_names, f'export type {name}')}\n")
        return typed("\n".join(found))

    def members(self, fields: Iterable[Field], taken: tuple[str, ...] = ()) -> str:
        names = self.attributes(fields, taken)
        return "".join(
            line
            for each in fields
            for line in [f"  {names[each.name]}: {self.type_of(each.type)};\n"]
        )  # fmt: skip

    @staticmethod
    def attributes(fields: Iterable[Field], taken: tuple[str, ...] = ()) -> dict[str, str]:
        return Names([*_KEYWORDS.split(), *taken]).reserve_all(each.name for each in fields)

    def doc(self, name: str, sealed: str = "") -> str:
        text = self.plan.docs.get(name, "")
        if sealed and name in self.names:
            text = ""  # it is the docstring of a definition of the same name
        if not text:
            return ""
        lines = [
            line.rstrip()
            for line in text.replace("*/", "*\\/").replace("⟦", "[").replace("⟧", "]").splitlines()
        ]
        if len(lines) == 1:
            return f"/** {lines[0]} */\n"
        return "/**\n" + "".join(f" * {line}".rstrip() + "\n" for line in lines) + " */\n"

    def type_of(self, tp: Type) -> str:
        match tp:
            case Scalar("u64" | "i64"):
                return "bigint" if self.big else "number"
            case Scalar("bool"):
                return "boolean"
            case Scalar("str"):
                return "string"
            case Scalar("bytes"):
                return "Uint8Array"
            case Scalar():
                return "number"
            case Ref(name):
                return self.names[name]
            case Option(item):
                return f"{self.type_of(item)} | null"
            case Product(items):
                return f"[{', '.join(map(self.type_of, items))}]"
            case List(item) | Fixed(item, _):
                array = self.array_of(item)
                if array is not None:
                    return array
                inner = self.type_of(item)
                return f"({inner})[]" if isinstance(item, Option) else f"{inner}[]"

    def array_of(self, item: Type) -> str | None:
        # The typed array of a list of numbers, if there is one.
        if not isinstance(item, Scalar) or item.name not in _ARRAYS:
            return None
        return None if not self.big and item.name in ("u64", "i64") else _ARRAYS[item.name]

    # --- reading ---

    def read(self, tp: Type) -> str:
        match tp:
            case Scalar("bytes"):
                return "r.data()"
            case Scalar("u64" | "i64") if not self.big:
                return f"safe(r.{tp.name}(), r.at - 8)"
            case Scalar(name):
                return f"r.{name}()"
            case Ref(name):
                return f"read{self.names[name]}(r)"
            case Option(item):
                return f"r.bool() ? {self.read(item)} : null"
            case Product(items):
                return f"[{', '.join(map(self.read, items))}]"
            case List(item):
                array = self.array_of(item)
                if array is not None:
                    size = self.plan.least(item)
                    return f"new {array}(r.copy({size} * r.count({size})))"
                rows = self.rows(item)
                if rows:
                    return f"r.rows(r.count({self.plan.least(item)}), {rows})"
                return f"r.list({self.plan.least(item)}, {self.reader(item)})"
            case Fixed(item, count):
                array = self.array_of(item)
                if array is not None:
                    return f"new {array}(r.copy({self.plan.least(tp)}))"
                rows = self.rows(item)
                if rows:
                    return f"r.rows({count}, {rows})"
                return f"r.fixed({count}, {self.plan.least(tp)}, {self.reader(item)})"

    def reads(self, fields: list[Field]) -> list[tuple[str, str]]:
        """How each field is read. The bounds of a sequence of numbers and bools are checked once."""
        found: list[tuple[str, str]] = []
        while fields:
            run = [*takewhile(lambda each: _is_plain(each.type), fields)]
            if len(run) < 2:
                each, *fields = fields
                found.append((each.name, self.read(each.type)))
                continue
            fields = fields[len(run) :]
            names = [each.type.name for each in run if isinstance(each.type, Scalar)]
            size = left = sum(SIZES[name] for name in names)
            kinds = "".join(self.kind(name) for name in names)
            for each, name in zip(run, names, strict=True):
                place = f'r.run({size}, "{kinds}")' if left == size else f"r.at - {left}"
                found.append((each.name, self.read_at(name, "r.view", place, f"r.at - {left}")))
                left -= SIZES[name]
        return found

    def kind(self, name: str) -> str:
        # The kind, as `Reader.short` expects it.
        if name in ("u64", "i64") and not self.big:
            return name[0]
        return "b" if name == "bool" else str(SIZES[name])

    def read_at(self, name: str, view: str, place: str, again: str) -> str:
        if name == "bool":
            return f"boolAt({view}, {place})"
        end = "" if name in ("u8", "i8") else ", true"
        text = f"{view}.get{_VIEWS[name]}({place}{end})"
        return f"safe({text}, {again})" if name in ("u64", "i64") and not self.big else text

    def plain(self, each: Definition) -> bool:
        """Whether a struct has only numbers and bools. Such structs need no `Reader`."""
        return (
            isinstance(each, Struct) and len(each.fields) > 1 and all(_is_plain(f.type) for f in each.fields)
        )

    def rows(self, item: Type) -> str:
        """The size of a struct of numbers, and its reader, as arguments; "" if the type is none."""
        each = self.by_name.get(item.name) if isinstance(item, Ref) else None
        if each is None or not self.plain(each):
            return ""
        return f"{self.plan.sizes[each.name]}, at{self.names[each.name]}"

    def plain_code(self, each: Struct, name: str, names: dict[str, str], head: str) -> str:
        lines, at, kinds = "", 0, ""
        for field in each.fields:
            assert isinstance(field.type, Scalar)
            place = f"at + {at}" if at else "at"
            lines += f"    {names[field.name]}: {self.read_at(field.type.name, 'view', place, place)},\n"
            at += SIZES[field.type.name]
            kinds += self.kind(field.type.name)
        parameters = f"view{typed(': DataView')}, at{typed(': number')}"
        return (
            f"function at{name}({parameters}){typed(f': {name}')} {{\n  return {{\n{lines}  }};\n}}\n\n"
            f'{head}  return at{name}(r.view, r.run({at}, "{kinds}"));\n}}\n'
        )

    def reader(self, item: Type) -> str:
        # A function that reads one item.
        if isinstance(item, Ref):
            return f"read{self.names[item.name]}"
        text = self.read(item)
        return f"(r) => ({text})" if isinstance(item, Option) else f"(r) => {text}"

    def code(self, each: Struct | Sealed | Enum) -> str:
        name = self.names[each.name]
        head = f"function read{name}(r{typed(': Reader')}){typed(f': {name}')} {{\n"
        write = f"function write{name}(w{typed(': Writer')}, v{typed(f': {name}')}){typed(': void')} {{\n"
        again = each.name in self.plan.recursive
        enter = "  r.enter();\n" if again else ""
        leave = "  r.leave();\n  return value;\n" if again else ""
        give = f"  const value{typed(f': {name}')} =" if again else "  return"
        if isinstance(each, Enum):
            index = f"{name}Names[r.index({len(each.members)})]{typed('!')}"
            return (
                f"{head}  return {index};\n}}\n\n"
                f'{write}  w.index(v, {name}Names, "{name}");\n}}\n'
            )  # fmt: skip
        if isinstance(each, Struct):
            names = self.attributes(each.fields)
            body = self.literal(each.fields, names, "  ")
            wrote = self.write_fields(each.fields, names, name, "  ")
            inner = (f'  w.enter("{name}");\n', "  w.leave();\n") if again else ("", "")
            if not each.fields:
                return f"{unused(head)}  return {{}};\n}}\n\n{unused(write)[:-1]}}}\n"
            if self.plain(each):
                return f"{self.plain_code(each, name, names, head)}\n{write}{wrote}}}\n"
            return f"{head}{enter}{give} {body};\n{leave}}}\n\n{write}{inner[0]}{wrote}{inner[1]}}}\n"
        cases, writes = [], []
        for i, variant in enumerate(each.variants):
            names = self.attributes(variant.fields, ("kind",))
            body = self.literal(variant.fields, names, "      ", f'kind: "{variant.name}"')
            kept = f"const value{i}{typed(f': {name}')} = {body};\n"
            after = f"      {kept}      r.leave();\n      return value{i};\n"
            cases.append(
                f"    case {i}:" + (f" {{\n{after}    }}\n" if again else f"\n      return {body};\n")
            )
            own = self.variants[each.name, variant.name]
            wrote = self.write_fields(variant.fields, names, own, "      ")
            writes.append(
                f'    case "{variant.name}":' + " {\n" + f"      w.raw32({i});\n{wrote}      break;\n    }}\n"
            )
        count = len(each.variants)
        inner = (f'  w.enter("{name}");\n', "  w.leave();\n") if again else ("", "")
        return (
            f"{head}{enter}  const at = r.at;\n  const index = r.index({count});\n  switch (index) {{\n"
            f"{''.join(cases)}    default:\n      throw new InvalidVariant(index, at);\n  }}\n}}\n\n"
            f"{write}{inner[0]}  switch (v.kind) {{\n{''.join(writes)}    default:\n"
            f'      throw new EncodeError("no variant has this kind", "{name}");\n  }}\n{inner[1]}}}\n'
        )

    def root_code(self, name: str, tp: Type) -> str:
        body = broken("  return ", self.read(tp), ";")
        head = f"function read{name}(r{typed(': Reader')}){typed(f': {name}')} {{\n{body}}}\n"
        write = f"function write{name}(w{typed(': Writer')}, v{typed(f': {name}')}){typed(': void')} {{\n"
        path = f'"{name}"'
        return f"{head}\n{write}{self.write(tp, 'v', path, '  ')}}}\n"

    def literal(self, fields: Iterable[Field], names: dict[str, str], indent: str, first: str = "") -> str:
        lines = [f"{indent}  {first},\n"] if first else []
        lines += [broken(f"{indent}  {names[name]}: ", text, ",") for name, text in self.reads([*fields])]
        if not lines:
            return "{}"
        return "{\n" + "".join(lines) + f"{indent}}}"

    # --- writing ---

    def write_fields(self, fields: Iterable[Field], names: dict[str, str], name: str, indent: str) -> str:
        self.fresh = 0
        return "".join(
            self.write(each.type, f"v.{names[each.name]}", f'"{name}.{each.name}"', indent) for each in fields
        )

    def write(self, tp: Type, v: str, path: str, indent: str) -> str:
        """The statements that write one value."""
        match tp:
            case Scalar("bytes"):
                return call(indent, "w.data", v, path)
            case Scalar("u64" | "i64") if not self.big:
                return call(indent, f"w.{tp.name}", f"w.safe({v}, {path})", path)
            case Scalar(name):
                return call(indent, f"w.{name}", v, path)
            case Ref(name):
                return f"{indent}write{self.names[name]}(w, {v});\n"
            case Option(item):
                one = self.name("o")
                return (
                    f"{indent}const {one} = {v};\n{indent}if ({one} == null) {{\n{indent}  w.raw8(0);\n"
                    f"{indent}}} else {{\n{indent}  w.raw8(1);\n"
                    f"{self.write(item, one, path, indent + '  ')}{indent}}}\n"
                )
            case Product(items):
                found = call(indent, "w.exactly", v, str(len(items)), path)
                for i, item in enumerate(items):
                    found += self.write(item, f"{v}[{i}]", path, indent)
                return found
            case List(item):
                most = [str(MAX_EMPTY)] if self.plan.least(item) == 0 else []
                return call(indent, "w.count", v, path, *most) + self.elements(item, v, path, indent)
            case Fixed(item, count):
                return call(indent, "w.exactly", v, str(count), path) + self.elements(item, v, path, indent)

    def elements(self, item: Type, v: str, path: str, indent: str) -> str:
        array = self.array_of(item)
        if array is not None:
            assert isinstance(item, Scalar)
            return call(indent, "w.numbers", v, array, f'"{item.name}"', path)
        one = self.name("e")
        return (
            f"{indent}for (const {one} of {v}) {{\n{self.write(item, one, path, indent + '  ')}{indent}}}\n"
        )

    def name(self, letter: str) -> str:
        self.fresh += 1
        return f"{letter}{self.fresh}"

    # --- public functions ---

    def public(self, name: str, size: int | None) -> str:
        fast = ""
        if size is not None:
            fast = (
                f"  const view = viewOf(bytes);\n  const size = view.byteLength;\n"
                f"  if (size === {size} || (size > {size} && !strict)) return at{name}(view, 0);\n"
            )
            if len(fast.splitlines()[-1]) > WIDTH:
                fast = fast.replace(f" return at{name}", f"\n    return at{name}")
        return (
            f"/** Decode a value; bytes after it are ignored unless `strict`. Throws `DecodeError`. */\n"
            f"export function decode{name}(\n  bytes{typed(': Uint8Array | ArrayBuffer')},\n"
            f"  strict{typed(': boolean')} = false,\n){typed(f': {name}')} {{\n"
            f"{fast}  const r = new Reader(bytes);\n  return finish(r, read{name}(r), strict);\n}}\n\n"
            f"/** Encode a value. Throws `EncodeError`. */\n"
            f"export function encode{name}(value{typed(f': {name}')}){typed(': Uint8Array')} {{\n"
            f"  const w = new Writer();\n  write{name}(w, value);\n  return w.done();\n}}\n"
        )


def _is_plain(tp: Type) -> bool:
    return isinstance(tp, Scalar) and tp.name in SIZES
