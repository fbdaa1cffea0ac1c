"""Random schemas, values of them, and inputs that are nearly values, to compare generated code.

Values are compared between languages as one text (`shown`): numbers in decimal, floats by their bits, text
and bytes in hexadecimal. So nothing depends on how a language prints.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deli_com import DecodeError, InvalidBool, InvalidVariant, Schema, codec
from deli_com.schema.tree import (
    FLOATS,
    INTEGERS,
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
    Tree,
    Type,
)
from deli_com.types.instance import record_spec

# Keywords of the languages, names of the runtimes, and names that differ only in case.
AWKWARD = """
class type match fn let mut self Self impl dyn int double float long char auto template namespace operator
new delete default switch case final var late required factory dynamic get set async await yield in is None
True lambda def pass del global nonlocal from import export interface function kind value index offset at r
w v path Reader Writer DecodeError EncodeError UnexpectedEof Error String Vec Option Box Result Ok Err Some
Codec std wire uint8_t size_t vector optional variant string Uint8Array Float32Array Array Object Math
Number BigInt List Map ByteData Uint8List InvalidBool read write encode decode to_bytes from_bytes bytes_
buf constructor prototype toString hashCode runtimeType Name name NAME _x x_ a1 Root UpRoot u128 crate super
where loop move ref static unsafe use enum_ and or not xor bool_ union volatile register export_ signed
short goto friend typename
"""
PLAIN = """
alpha beta gamma delta x y z id label stamp points left right size state mode speed angle
"""
GOLDEN = """\
deli 1
root Message
sealed Message
 0 Alarm
  code u32
 1 Pose @latest(robot) @retain
  robot str
  at Point
  trace [f32]
  side Side?
struct Point
 x f32
 y f32
enum Side
 0 BUY
 1 SELL
"""
RECURSIVE = """\
deli 1
root Tree
struct Tree
 value Expr
 next Tree?
 inner [Tree]
sealed Expr
 0 Leaf
  n i64
 1 Sum
  left Expr
  right Expr
 2 Many
  items [Expr]
  tree Tree?
"""
EMPTY = """\
deli 1
root [Empty]
struct Empty
"""
LIMITS = """\
deli 1
root Limits
struct Limits
 a u64
 b i64
 c [u64]
 d [i64;2]
 e f32
 f (f64,str,bytes)
 g [(u8,bool)?]
 h [[u8;3];2]
 i [Nothing;4]
 j ()
struct Nothing
"""
MANY = (
    "deli 1\nroot Wide\nsealed Wide\n"
    + "".join(f" {i} V{i}\n  f{i} {'u16' if i % 3 else 'Big?'}\n" for i in range(300))
    + "enum Big\n"
    + "".join(f" {i} M{i}\n" for i in range(300))
)
# Names that objects have by default in some language.
INHERITED = """\
deli 1
root constructor
struct constructor
 hashCode toString
 valueOf u8
 prototype [hasOwnProperty]
 Box u8
 next constructor?
struct toString
enum hasOwnProperty
 0 length
 1 values
"""
FIXED = [GOLDEN, RECURSIVE, EMPTY, LIMITS, MANY, INHERITED]


class _Maker:
    """One schema: definitions are made up first, then put in the order in which a walk meets them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        count = rng.randint(1, 6)
        names = rng.sample(AWKWARD.split(), rng.randint(0, 3))
        names += [f"T{i}" for i in range(count)]
        self.names = list(dict.fromkeys(names))[:count]
        self.made: dict[str, Struct | Sealed | Enum] = {}

    def schema(self) -> Schema:
        rng = self.rng
        for place, name in enumerate(self.names):
            later = self.names[place + 1 :]
            kind = rng.random()
            if kind < 0.2 and place:
                self.made[name] = Enum(name, tuple(self.words(rng.randint(1, 6))))
            elif kind < 0.5:
                words = self.words(rng.randint(1, 5))
                # Fields of a sealed type in a list refer to any type, which makes recursion.
                self.made[name] = Sealed(
                    name, tuple(self.variant(word, later, rng.random() < 0.3) for word in words)
                )
            else:
                self.made[name] = Struct(name, self.fields(later, rng.random() < 0.2))
        root: Type = Ref(self.names[0])
        if rng.random() < 0.15:
            root = rng.choice([List(root), Option(root), Product((root, Scalar("u8"))), Fixed(root, 2)])
        return Schema.parse(_text(root, self.made))

    def variant(self, name: str, later: list[str], loops: bool) -> Any:
        from deli_com.schema.tree import Variant

        return Variant(name, self.fields(later, loops))

    def words(self, count: int) -> list[str]:
        pool = PLAIN.split() + self.rng.sample(AWKWARD.split(), 12)
        return self.rng.sample(sorted({*pool} - {"None", "True"}), count)

    def fields(self, later: list[str], loops: bool) -> tuple[Field, ...]:
        found = [
            Field(word, self.type_of(later, 0)) for word in self.words(self.rng.choice([0, 1, 2, 3, 4, 5]))
        ]
        if loops:
            inner = Ref(self.rng.choice(self.names))
            word = next(w for w in [*PLAIN.split(), "again"] if w not in [f.name for f in found])
            found.append(Field(word, self.rng.choice([List(inner), Option(inner)])))
        return tuple(found)

    def type_of(self, later: list[str], depth: int) -> Type:
        rng = self.rng
        if later and rng.random() < 0.35:
            return Ref(rng.choice(later))
        if depth < 3 and rng.random() < 0.4:
            item = self.type_of(later, depth + 1)
            kind = rng.randrange(4)
            if kind == 0:
                return Scalar("bytes") if item == Scalar("u8") else List(item)
            if kind == 1:
                return Fixed(item, rng.choice([0, 1, 2, 3, 5]))
            if kind == 2:
                return item if isinstance(item, Option) else Option(item)
            return Product((item, *(self.type_of(later, depth + 1) for _ in range(rng.randint(0, 2)))))
        return Scalar(rng.choice([*INTEGERS, *FLOATS, *FLOATS, "bool", "str", "str", "bytes"]))


def _text(root: Type, made: dict[str, Struct | Sealed | Enum]) -> str:
    from deli_com.schema.text import render
    from deli_com.schema.tree import refs, types_in

    order: dict[str, Struct | Sealed | Enum] = {}
    todo = [*refs(root)][::-1]
    while todo:
        name = todo.pop()
        if name not in order:
            order[name] = made[name]
            todo += [ref for tp in types_in(made[name]) for ref in refs(tp)][::-1]
    return render(Tree(root, tuple(order.values())))


def schemas(count: int, seed: int = 1) -> list[Schema]:
    """The fixed ones, and as many at random as are missing."""
    rng = random.Random(seed)
    found = [Schema.parse(text) for text in FIXED][:count]
    while len(found) < count:
        try:
            made = _Maker(rng).schema()
            made.load()
        except ValueError:
            continue  # a type that holds itself without end: made anew
        found.append(made)
    return found


# --- values ---


class Values:
    """Values of one schema, and how they are shown."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.codec: Any = codec(schema.load())
        self.by_name = schema.tree.by_name
        self.types = schema.types

    def variants(self, name: str) -> list[Any]:
        return list(record_spec(self.types[name]).variants.values())

    def random(self, rng: random.Random, tp: Type | None = None, depth: int = 0) -> Any:
        match self.schema.tree.root if tp is None else tp:
            case Scalar("bool"):
                return rng.random() < 0.5
            case Scalar("str"):
                return "".join(
                    rng.choice(["a", "Z", "é", "中", "😀", "\0", "\ufeff"])
                    for _ in range(rng.choice([0, 1, 3, 40]))
                )
            case Scalar("bytes"):
                return rng.randbytes(rng.choice([0, 1, 5]))
            case Scalar("f32"):
                bits = rng.choice([0, 0x80000000, 0x7F800000, 0xFF7FFFFF, 1, 0x7FC00000, rng.getrandbits(31)])
                found = struct.unpack("<f", struct.pack("<I", bits))[0]
                return found if found == found else float("nan")
            case Scalar("f64"):
                return rng.choice(
                    [0.0, -0.0, float("inf"), 5e-324, -1e308, float("nan"), rng.uniform(-1e9, 1e9)]
                )
            case Scalar(name):
                bits = int(name[1:])
                low = 0 if name[0] == "u" else -(1 << bits - 1)
                return rng.choice([low, low + (1 << bits) - 1, low + rng.getrandbits(bits)])
            case Option(item):
                return None if depth > 6 or rng.random() < 0.4 else self.random(rng, item, depth + 1)
            case List(item):
                count = 0 if depth > 6 else rng.choice([0, 1, 2, 4])
                return [self.random(rng, item, depth + 1) for _ in range(count)]
            case Fixed(item, count):
                return [self.random(rng, item, depth + 1) for _ in range(count)]
            case Product(items):
                return tuple(self.random(rng, item, depth + 1) for item in items)
            case Ref(name):
                definition = self.by_name[name]
                if isinstance(definition, Enum):
                    return rng.choice(list(self.types[name]))
                if isinstance(definition, Struct):
                    return self.types[name](*self._fields(rng, definition.fields, depth))
                place = rng.randrange(len(definition.variants))
                if depth > 8:  # the flattest there is, or values would not end
                    place = min(
                        range(len(definition.variants)),
                        key=lambda i: sum(isinstance(f.type, Ref) for f in definition.variants[i].fields),
                    )
                fields = definition.variants[place].fields
                return self.variants(name)[place](*self._fields(rng, fields, depth))
        raise AssertionError(tp)

    def _fields(self, rng: random.Random, fields: tuple[Field, ...], depth: int) -> list[Any]:
        return [self.random(rng, field.type, depth + 1) for field in fields]

    def shown(self, value: Any, tp: Type | None = None) -> str:
        tp = self.schema.tree.root if tp is None else tp
        match tp:
            case Scalar("bool"):
                return "true" if value else "false"
            case Scalar("str"):
                return f'"{value.encode().hex()}"'
            case Scalar("bytes"):
                return f"x{bytes(value).hex()}"
            case Scalar("f32" | "f64" as name):
                if value != value:
                    return "nan"
                return struct.pack(">f" if name == "f32" else ">d", value).hex()
            case Scalar():
                return str(value)
            case Option(item):
                return "null" if value is None else self.shown(value, item)
            case List(item) | Fixed(item, _):
                return f"[{','.join(self.shown(each, item) for each in value)}]"
            case Product(items):
                return (
                    f"[{','.join(self.shown(each, item) for each, item in zip(value, items, strict=True))}]"
                )
            case Ref(name):
                definition = self.by_name[name]
                if isinstance(definition, Enum):
                    return f"#{definition.members[list(type(value)).index(value)]}"
                if isinstance(definition, Struct):
                    return self._shown_fields(value, definition.fields)
                variant = definition.variants[self.variants(name).index(type(value))]
                return variant.name + self._shown_fields(value, variant.fields)
        raise AssertionError(tp)

    def _shown_fields(self, value: Any, fields: tuple[Field, ...]) -> str:
        names = [each.name for each in record_spec(type(value)).fields]
        parts = [
            f"{field.name}:{self.shown(getattr(value, name), field.type)}"
            for field, name in zip(fields, names, strict=True)
        ]
        return f"{{{','.join(parts)}}}"


# --- inputs ---


@dataclass(frozen=True)
class Case:
    """One input: which schema, the bytes, and the line that every language prints for it."""

    schema: int
    data: bytes
    expected: str

    @property
    def line(self) -> str:
        return f"{self.schema} {self.data.hex()}"


def outcome(values: Values, data: bytes) -> str:
    """What becomes of an input: ``ok <bytes again> <value>``, or ``<error class> <offset> <number>``."""
    try:
        value = values.codec.from_bytes(data)
    except DecodeError as error:
        number = error.value if isinstance(error, InvalidBool) else 0
        number = error.index if isinstance(error, InvalidVariant) else number
        return f"{type(error).__name__} {error.offset} {number}"
    shown = values.shown(value)
    again = "-" if "nan" in shown else values.codec.to_bytes(value).hex()
    return f"ok {again} {shown}"


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Bytes that are nearly a value: cut, flipped, counts made large."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kind = rng.randrange(5)
        at = rng.randrange(len(found) + 1)
        if kind == 0:
            del found[at:]
        elif kind == 1:
            found[at:at] = rng.randbytes(rng.choice([1, 4]))
        elif kind == 2 and at < len(found):
            found[at] = rng.choice([0, 1, 2, 0x80, 0xED, 0xFF, found[at] ^ 1 << rng.randrange(8)])
        elif kind == 3:
            found[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 3, 200, 65536, 65537, 2**31, 2**32 - 1]))
        elif kind == 4:
            del found[at : at + rng.choice([1, 2, 4])]
    return bytes(found)


def cases(found: list[Schema], values_each: int, mutations_each: int, seed: int = 2) -> Iterator[Case]:
    """Values of each schema, and mutations of each value, with what Python makes of them."""
    rng = random.Random(seed)
    for place, schema in enumerate(found):
        values = Values(schema)
        for _ in range(values_each):
            data = values.codec.to_bytes(values.random(rng))
            yield Case(place, data, outcome(values, data))
            for _ in range(mutations_each):
                other = mutated(rng, data)
                yield Case(place, other, outcome(values, other))
        for data in EXTREMES.get(schema.text, ()):
            yield Case(place, data, outcome(values, data))


def _deep(count: int) -> bytes:
    # A Tree in a Tree in a Tree ... by `next`, each with a leaf: depth is counted once for each of both.
    leaf = struct.pack("<Iq", 0, 7)
    return (leaf + b"\1") * (count - 1) + leaf + b"\0" + struct.pack("<I", 0) * count


EXTREMES = {
    RECURSIVE: [_deep(199), _deep(200), _deep(201), struct.pack("<I", 1) * 250],
    EMPTY: [struct.pack("<I", n) for n in (0, 65536, 65537, 2**32 - 1)],
}
