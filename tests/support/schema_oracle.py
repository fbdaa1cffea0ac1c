"""What a reader must make of another writer, in plain Python: types that are mutations of one another, and
bytes of one read as the other, field by field.

This module does not use the library's compiler. Types are trees of `deli_com.schema.tree`. Values are plain:
numbers, bool, str, bytes, list, tuple, None, ``("struct", fields)``, ``("variant", name, fields)``,
``("member", name)``.
"""

from __future__ import annotations

import enum
import math
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

import deli_com
from deli_com import Array, Codec, FixedArray, codec
from deli_com import field as codec_field
from deli_com.schema.tree import (
    SCALARS,
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
    Tree,
    Type,
    Variant,
    refs,
    types_in,
)

NUMBERS = [name for name in SCALARS if name in SIZES and name != "bool"]
FORMATS = dict(zip(NUMBERS, "BHIQbhiqfd", strict=True))
NUMPY = {
    name: f"{'uint' if name[0] == 'u' else 'int' if name[0] == 'i' else 'float'}{name[1:]}"
    for name in NUMBERS
}
NAMES = "abcdefgh"
MAX_EMPTY = 65536
MAX_DEPTH = 200


class Fault(Exception):
    """The bytes are no value: the class of the error, and its offset."""

    def __init__(self, kind: str, offset: int) -> None:
        super().__init__(kind, offset)
        self.kind = kind
        self.offset = offset


@dataclass
class Reader:
    """A reader's type: its tree, and what a tree does not say.

    Defaults and former names are by definition (``"A"``, ``"S.V"`` for a variant) and field.
    """

    tree: Tree
    defaults: dict[tuple[str, str], Any] = field(default_factory=dict)
    renamed: dict[tuple[str, str], str] = field(default_factory=dict)


# --- generating types ---


class Generator:
    """Random trees, their mutations, values and classes; the same seed, the same of all."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fresh = 0

    def name(self, start: str) -> str:
        self.fresh += 1
        return f"{start}{self.fresh}"

    def tree(self) -> Tree:
        rnd = self.random
        names = [self.name("T") for _ in range(rnd.randint(1, 4))]
        kinds = [rnd.choice(["struct", "struct", "struct", "sealed", "enum"]) for _ in names]
        if kinds[0] == "enum" and rnd.random() < 0.7:
            kinds[0] = "struct"
        made: dict[str, Definition] = {}
        for i in reversed(range(len(names))):
            # A definition names later ones; earlier ones only through a list or an option.
            made[names[i]] = self.definition(names[i], kinds[i], names[i + 1 :], names[: i + 1])
        root: Type = Ref(names[0])
        if rnd.random() < 0.15:
            root = rnd.choice([List(root), Option(root), Product((root, Scalar("u8"))), Fixed(root, 2)])
        return ordered(root, made)

    def definition(self, name: str, kind: str, later: list[str], earlier: list[str]) -> Definition:
        rnd = self.random
        if kind == "enum":
            return Enum(name, tuple(self.name("M") for _ in range(rnd.randint(1, 4))))
        if kind == "sealed":
            return Sealed(
                name,
                tuple(
                    Variant(self.name("V"), self.fields(later, earlier, rnd.randint(0, 3)))
                    for _ in range(rnd.randint(1, 4))
                ),
            )
        return Struct(name, self.fields(later, earlier, rnd.randint(0 if rnd.random() < 0.1 else 1, 5)))

    def fields(self, later: list[str], earlier: list[str], count: int) -> tuple[Field, ...]:
        names = self.random.sample(NAMES, count)
        return tuple(Field(name, self.type(later, earlier)) for name in names)

    def type(self, later: list[str], earlier: list[str], depth: int = 0) -> Type:
        rnd = self.random
        kind = rnd.random()
        if kind < 0.5 or depth > 2:
            return Scalar(rnd.choice(SCALARS) if rnd.random() < 0.5 else rnd.choice(NUMBERS))
        if kind < 0.68 and later:
            return Ref(rnd.choice(later))
        if kind < 0.72 and earlier:
            return rnd.choice([list_of, Option])(Ref(rnd.choice(earlier)))
        inner = self.type(later, earlier, depth + 1)
        if kind < 0.85:
            return list_of(inner)
        if kind < 0.92:
            return inner if isinstance(inner, Option) else Option(inner)
        if kind < 0.96:
            return Fixed(inner, rnd.randint(0, 3))
        return Product((inner, *(self.type(later, earlier, depth + 1) for _ in range(rnd.randint(0, 2)))))

    def reader(self) -> Reader:
        """A random type with defaults."""
        made = Reader(self.tree())
        for key, item in fields_of(made.tree):
            if self.random.random() < 0.4 and not (
                isinstance(item.type, Ref) and not self.is_enum(made.tree, item)
            ):
                made.defaults[key, item.name] = self.value(item.type, made.tree, 3)
        return made

    def is_enum(self, tree: Tree, item: Field) -> bool:
        return isinstance(item.type, Ref) and isinstance(tree.by_name[item.type.name], Enum)

    # --- mutations ---

    def mutated(self, reader: Reader) -> Tree:
        """Another version of the type, for a writer."""
        while True:
            reader.renamed.clear()
            found = self.attempt(reader)
            if all(size < 2**30 for size in sizes_of(found).values()):  # else no value could end
                return found

    def attempt(self, reader: Reader) -> Tree:
        rnd = self.random
        definitions = dict(reader.tree.by_name)
        root = reader.tree.root
        for _ in range(rnd.choice([0, 1, 1, 2, 2, 3, 5])):
            name = rnd.choice([*definitions])
            definitions[name] = self.mutate(definitions[name], reader, [*definitions])
        if rnd.random() < 0.15:  # another name of a definition, which means nothing
            old = rnd.choice([*definitions])
            new = self.name("N")
            definitions = {
                new if name == old else name: renamed_refs(item, old, new)
                for name, item in definitions.items()
            }
            root = rename_in(root, old, new)
        if rnd.random() < 0.03:
            root = rnd.choice([List(root), Scalar("u8"), root])
        return ordered(root, definitions)

    def mutate(self, item: Definition, reader: Reader, names: list[str]) -> Definition:
        rnd = self.random
        if isinstance(item, Enum):
            return replace(item, members=self.reordered(item.members, lambda: self.name("M")))
        if isinstance(item, Struct):
            return replace(item, fields=self.mutated_fields(item.fields, item.name, reader, names))
        if rnd.random() < 0.5:
            new = self.reordered(
                item.variants, lambda: Variant(self.name("V"), self.fields([], names, rnd.randint(0, 2)))
            )
            return replace(item, variants=new)
        at = rnd.randrange(len(item.variants))
        variant = item.variants[at]
        changed = replace(
            variant, fields=self.mutated_fields(variant.fields, f"{item.name}.{variant.name}", reader, names)
        )
        return replace(item, variants=(*item.variants[:at], changed, *item.variants[at + 1 :]))

    def reordered(self, items: tuple[Any, ...], fresh: Any) -> tuple[Any, ...]:
        rnd = self.random
        result = list(items)
        kind = rnd.randrange(4)
        if kind == 0:
            rnd.shuffle(result)
        elif kind == 1 and len(result) > 1:
            result.pop(rnd.randrange(len(result)))
        else:
            result.insert(rnd.randint(0, len(result)), fresh())
        return tuple(result)

    def mutated_fields(
        self, fields: tuple[Field, ...], key: str, reader: Reader, names: list[str]
    ) -> tuple[Field, ...]:
        rnd = self.random
        result = list(fields)
        kind = rnd.randrange(7)
        taken = {item.name for item in fields}
        if kind == 0:
            rnd.shuffle(result)
        elif kind == 1 and result:
            result.pop(rnd.randrange(len(result)))
        elif kind == 2 and len(taken) < len(NAMES):
            name = rnd.choice([name for name in NAMES if name not in taken])
            result.insert(rnd.randint(0, len(result)), Field(name, self.type([], names)))
        elif kind == 3 and result:
            at = rnd.randrange(len(result))
            new = self.name("old")
            if rnd.random() < 0.8:
                reader.renamed[key, result[at].name] = new
            result[at] = Field(new, result[at].type)
        elif result:
            at = rnd.randrange(len(result))
            result[at] = Field(result[at].name, self.mutated_type(result[at].type, names))
        return tuple(result)

    def mutated_type(self, tp: Type, names: list[str]) -> Type:
        rnd = self.random
        match tp:
            case Scalar(name) if name in NUMBERS and rnd.random() < 0.8:
                return Scalar(rnd.choice(NUMBERS))
            case List(item) if rnd.random() < 0.8:
                return list_of(self.mutated_type(item, names))
            case Fixed(item, count) if rnd.random() < 0.8:
                return Fixed(self.mutated_type(item, names), count if rnd.random() < 0.8 else count + 1)
            case Option(item) if rnd.random() < 0.8:
                return item if rnd.random() < 0.7 else self.mutated_type(item, names)
            case Product(items) if rnd.random() < 0.8:
                at = rnd.randrange(len(items))
                return Product((*items[:at], self.mutated_type(items[at], names), *items[at + 1 :]))
        if rnd.random() < 0.5 and not isinstance(tp, Option):
            return Option(tp)
        return self.type([], names)

    # --- values ---

    def value(self, tp: Type, tree: Tree, deep: int = 0) -> Any:
        rnd = self.random
        match tp:
            case Scalar("bool"):
                return rnd.random() < 0.5
            case Scalar("str"):
                return "".join(rnd.choice("aé中😀z") for _ in range(rnd.randint(0, 4)))
            case Scalar("bytes"):
                return rnd.randbytes(rnd.randint(0, 4))
            case Scalar("f32" | "f64"):
                return rnd.randint(-1000, 1000) / 8
            case Scalar(name):
                bits = int(name[1:])
                low, high = (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
                return rnd.choice([low, high, rnd.randint(low, high), rnd.randint(0, 100)])
            case List(item):
                return [self.value(item, tree, deep + 1) for _ in range(0 if deep > 3 else rnd.randint(0, 3))]
            case Fixed(item, count):
                return [self.value(item, tree, deep + 1) for _ in range(count)]
            case Option(item):
                return None if deep > 3 or rnd.random() < 0.3 else self.value(item, tree, deep + 1)
            case Product(items):
                return tuple(self.value(item, tree, deep + 1) for item in items)
            case Ref(name):
                return self.of_definition(tree.by_name[name], tree, deep + 1)

    def of_definition(self, item: Definition, tree: Tree, deep: int) -> Any:
        if isinstance(item, Enum):
            return "member", self.random.choice(item.members)
        if isinstance(item, Struct):
            return "struct", {part.name: self.value(part.type, tree, deep) for part in item.fields}
        variant = self.random.choice(item.variants)
        return (
            "variant",
            variant.name,
            {part.name: self.value(part.type, tree, deep) for part in variant.fields},
        )

    # --- classes ---

    def classes(self, reader: Reader) -> Any:
        """The reader's type as a program would have it: lists of every kind, defaults, former names."""
        return _Classes(self, reader).root()


def list_of(item: Type) -> Type:
    return Scalar("bytes") if item == Scalar("u8") else List(item)


def fields_of(tree: Tree) -> Iterator[tuple[str, Field]]:
    """All fields, each with the key of its struct or variant."""
    for item in tree.definitions:
        if isinstance(item, Struct):
            yield from ((item.name, part) for part in item.fields)
        elif isinstance(item, Sealed):
            for variant in item.variants:
                yield from ((f"{item.name}.{variant.name}", part) for part in variant.fields)


def ordered(root: Type, definitions: dict[str, Definition]) -> Tree:
    """The tree of what is reached from the root, in the order of the text."""
    order: list[str] = []

    def walk(tp: Type) -> None:
        for name in refs(tp):
            if name not in order:
                order.append(name)
                for inner in types_in(definitions[name]):
                    walk(inner)

    walk(root)
    return Tree(root, tuple(definitions[name] for name in order))


def rename_in(tp: Type, old: str, new: str) -> Type:
    match tp:
        case Ref(name):
            return Ref(new if name == old else name)
        case List(item):
            return List(rename_in(item, old, new))
        case Option(item):
            return Option(rename_in(item, old, new))
        case Fixed(item, count):
            return Fixed(rename_in(item, old, new), count)
        case Product(items):
            return Product(tuple(rename_in(item, old, new) for item in items))
        case _:
            return tp


def renamed_refs(item: Definition, old: str, new: str) -> Definition:
    name = new if item.name == old else item.name
    if isinstance(item, Enum):
        return replace(item, name=name)
    if isinstance(item, Struct):
        return replace(item, name=name, fields=_renamed(item.fields, old, new))
    return replace(
        item,
        name=name,
        variants=tuple(replace(v, fields=_renamed(v.fields, old, new)) for v in item.variants),
    )


def _renamed(fields: tuple[Field, ...], old: str, new: str) -> tuple[Field, ...]:
    return tuple(replace(item, type=rename_in(item.type, old, new)) for item in fields)


class _Classes:
    def __init__(self, generator: Generator, reader: Reader) -> None:
        self.random = generator.random
        self.reader = reader
        self.by_name = reader.tree.by_name
        self.made: dict[str, Any] = {}
        self.module = "schema_oracle"

    def root(self) -> Any:
        todo = [*self.reader.tree.definitions][::-1]
        for item in todo:  # later definitions first
            self.make(item)
        return self.annotation(self.reader.tree.root)

    def make(self, item: Definition) -> None:
        if item.name in self.made:
            return
        if isinstance(item, Enum):
            self.made[item.name] = enum.Enum(item.name, list(item.members), module=self.module)  # type: ignore[misc]
        elif isinstance(item, Struct):
            self.made[item.name] = self.a_class(item.name, Codec, item.fields, item.name)
        else:
            base = self.a_class(item.name, Codec, (), item.name, sealed=True)
            self.made[item.name] = base
            for variant in item.variants:
                self.a_class(variant.name, base, variant.fields, f"{item.name}.{variant.name}")

    def a_class(self, name: str, base: Any, fields: tuple[Field, ...], key: str, **options: Any) -> Any:
        from deli_com.types.annotations import Later

        def later(tp: Type) -> Any:
            seed = self.random.random()
            return Later(lambda: self.seeded(seed, tp))

        namespace: dict[str, Any] = {"__module__": self.module, "__qualname__": name}
        namespace["__annotations__"] = {item.name: later(item.type) for item in fields}
        for item in fields:
            more: dict[str, Any] = {"kw_only": True}
            if (key, item.name) in self.reader.renamed:
                more["renamed_from"] = self.reader.renamed[key, item.name]
            if (key, item.name) in self.reader.defaults:
                more["default_factory"] = self.factory(item, self.reader.defaults[key, item.name])
            namespace[item.name] = codec_field(**more)
        return type(Codec)(name, (base,), namespace, **options)

    def factory(self, item: Field, value: Any) -> Any:
        return lambda: self.build(item.type, value)

    def build(self, tp: Type, value: Any) -> Any:
        """A plain value as the class's own; lists stay lists."""
        match tp:
            case Ref(name):
                found = self.made[name]
                if value[0] == "member":
                    return found[value[1]]
                if value[0] == "struct":
                    return found(**self.built(self.by_name[name].fields, value[1]))
                variants = deli_com.types.instance.record_spec(found).variants
                variant = next(v for v in self.by_name[name].variants if v.name == value[1])
                return variants[value[1]](**self.built(variant.fields, value[2]))
            case List(item) | Fixed(item, _):
                return [self.build(item, inner) for inner in value]
            case Option(item):
                return None if value is None else self.build(item, value)
            case Product(items):
                return tuple(self.build(item, inner) for item, inner in zip(items, value, strict=True))
            case _:
                return value

    def built(self, fields: tuple[Field, ...], value: dict[str, Any]) -> dict[str, Any]:
        return {item.name: self.build(item.type, value[item.name]) for item in fields}

    def seeded(self, seed: float, tp: Type) -> Any:
        self.flavour = random.Random(seed)
        return self.annotation(tp)

    def annotation(self, tp: Type) -> Any:
        flavour = getattr(self, "flavour", self.random)
        match tp:
            case Scalar("bytes"):
                return flavour.choice(
                    [bytes, bytes, list[deli_com.u8], Array[deli_com.u8], NDArray[np.uint8]]
                )
            case Scalar("str" | "bool" as name):
                return {"str": str, "bool": bool}[name]
            case Scalar(name):
                return getattr(deli_com, name)
            case Ref(name):
                if name not in self.made:
                    raise NameError(name)
                return self.made[name]
            case List(Scalar(name)) if name in NUMBERS:
                number = getattr(deli_com, name)
                return flavour.choice(
                    [list[number], tuple[number, ...], Array[number], NDArray[getattr(np, NUMPY[name])]]
                )
            case List(Ref(name)) if self.is_row(Ref(name)) and flavour.random() < 0.5:
                return Annotated[NDArray[np.void], self.annotation(Ref(name))]
            case List(item):
                inner = self.annotation(item)
                return list[inner] if flavour.random() < 0.7 else tuple[inner, ...]
            case Fixed(item, count):
                return FixedArray[self.annotation(item), Literal[count]]
            case Option(item):
                return self.annotation(item) | None
            case Product(items):
                return tuple[tuple(self.annotation(item) for item in items)]

    def is_row(self, tp: Type, inside: tuple[str, ...] = ()) -> bool:
        match tp:
            case Scalar(name):
                return name in SIZES
            case Fixed(item, _):
                return self.is_row(item, inside)
            case Ref(name):
                item = self.by_name[name]
                if isinstance(item, Enum):
                    return bool(inside)
                if not isinstance(item, Struct) or not item.fields or name in inside:
                    return False
                if all(isinstance(part.type, Fixed) and not part.type.count for part in item.fields):
                    return False  # rows of no size
                return all(self.is_row(part.type, (*inside, name)) for part in item.fields)
            case _:
                return False


# --- bytes ---


def encode(tp: Type, value: Any, tree: Tree) -> bytes:
    """A plain value as bytes."""
    match tp:
        case Scalar("bool"):
            return bytes([value])
        case Scalar("str"):
            data = value.encode()
            return struct.pack("<I", len(data)) + data
        case Scalar("bytes"):
            return struct.pack("<I", len(value)) + value
        case Scalar(name):
            return struct.pack(f"<{FORMATS[name]}", value)
        case List(item):
            return struct.pack("<I", len(value)) + b"".join(encode(item, inner, tree) for inner in value)
        case Fixed(item, _):
            return b"".join(encode(item, inner, tree) for inner in value)
        case Option(item):
            return b"\0" if value is None else b"\1" + encode(item, value, tree)
        case Product(items):
            return b"".join(encode(item, inner, tree) for item, inner in zip(items, value, strict=True))
        case Ref(name):
            item = tree.by_name[name]
            if isinstance(item, Enum):
                return struct.pack("<I", item.members.index(value[1]))
            if isinstance(item, Struct):
                return b"".join(encode(part.type, value[1][part.name], tree) for part in item.fields)
            at = [variant.name for variant in item.variants].index(value[1])
            parts = (encode(part.type, value[2][part.name], tree) for part in item.variants[at].fields)
            return struct.pack("<I", at) + b"".join(parts)


def sizes_of(tree: Tree) -> dict[str, float]:
    """Least bytes of each definition, by trying until nothing changes."""
    sizes = dict.fromkeys(tree.by_name, math.inf)
    while True:
        before = dict(sizes)
        for name, item in tree.by_name.items():
            if isinstance(item, Enum):
                sizes[name] = 4
            elif isinstance(item, Struct):
                sizes[name] = sum(least(part.type, sizes) for part in item.fields)
            else:
                sizes[name] = 4 + min(
                    sum(least(part.type, sizes) for part in v.fields) for v in item.variants
                )
        if sizes == before:
            return sizes


def least(tp: Type, sizes: dict[str, float]) -> float:
    match tp:
        case Scalar(name):
            return SIZES.get(name, 4)
        case Ref(name):
            return sizes[name]
        case Option():
            return 1
        case List():
            return 4
        case Fixed(item, count):
            return count * least(item, sizes) if count else 0
        case Product(items):
            return sum(least(item, sizes) for item in items)


# --- the table of docs/wire.md section 9 ---


def widens(source: str, target: str) -> bool:
    """By the values at both ends: every number of the one is one of the other."""
    if source == target:
        return True
    family, bits = source[0], int(source[1:])
    if target == "f64":
        return source == "f32" or (family in "ui" and bits <= 53)
    if target == "f32" or family == "f" or target[0] == "f":
        return False
    low, high = (0, 2**bits - 1) if family == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    room = int(target[1:])
    least_, most = (0, 2**room - 1) if target[0] == "u" else (-(2 ** (room - 1)), 2 ** (room - 1) - 1)
    # "uN, iN wider of the family; uN to iM": an iN never becomes a uM, the range says so as well.
    return least_ <= low and high <= most


class Resolver:
    """Whether a reader can read a writer, and then what it makes of bytes."""

    def __init__(self, reader: Reader, writer: Tree) -> None:
        self.reader = reader
        self.there = writer
        self.here = reader.tree
        self.sizes = sizes_of(writer)
        self.again = {name for name in writer.by_name if self.reaches(name, name)}
        self.pairs: set[tuple[str, str]] = set()

    def reaches(self, start: str, goal: str) -> bool:
        met: set[str] = set()
        todo = [start]
        while todo:
            for tp in types_in(self.there.by_name[todo.pop()]):
                for name in refs(tp):
                    if name == goal:
                        return True
                    if name not in met:
                        met.add(name)
                        todo.append(name)
        return False

    # --- whether a type can be read ---

    def possible(self) -> bool:
        return self.fits(self.there.root, self.here.root)

    def fits(self, w: Type, r: Type) -> bool:
        match r:
            case Scalar(name) if name in NUMBERS:
                return isinstance(w, Scalar) and w.name in NUMBERS and widens(w.name, name)
            case Scalar():
                return w == r
            case Option(item):
                return self.fits(w.item if isinstance(w, Option) else w, item)
            case List(item):
                inner = Scalar("u8") if w == Scalar("bytes") else w.item if isinstance(w, List) else None
                return inner is not None and self.fits(inner, item) and self.sizeless(inner, item)
            case Fixed(item, count):
                return (
                    isinstance(w, Fixed)
                    and w.count == count
                    and self.fits(w.item, item)
                    and self.sizeless(w.item, item)
                )
            case Product(items):
                return (
                    isinstance(w, Product)
                    and len(w.items) == len(items)
                    and all(self.fits(a, b) for a, b in zip(w.items, items, strict=True))
                )
            case Ref(name):
                return isinstance(w, Ref) and self.definitions(w.name, name)

    def sizeless(self, w: Type, r: Type) -> bool:
        # Elements without bytes must be alike.
        return least(w, self.sizes) > 0 or self.same_inside(w, r, set())

    def same_definitions(self, a: str, b: str, met: set[tuple[str, str]]) -> bool:
        if (a, b) in met:
            return True
        met.add((a, b))
        theirs, ours = self.there.by_name[a], self.here.by_name[b]
        if type(ours) is not type(theirs):
            return False
        if isinstance(ours, Enum):
            return ours.members == theirs.members
        parts = [(theirs, ours, b)] if isinstance(ours, Struct) else []
        if isinstance(ours, Sealed):
            if [v.name for v in ours.variants] != [v.name for v in theirs.variants]:
                return False
            parts = [(x, y, f"{b}.{y.name}") for x, y in zip(theirs.variants, ours.variants, strict=True)]
        for x, y, key in parts:
            if len(x.fields) != len(y.fields):
                return False
            for there, here in zip(x.fields, y.fields, strict=True):
                if there.name not in (here.name, self.reader.renamed.get((key, here.name))):
                    return False
                if not self.same_inside(there.type, here.type, met):
                    return False
        return True

    def same_inside(self, w: Type, r: Type, met: set[tuple[str, str]]) -> bool:
        match w, r:
            case Ref(a), Ref(b):
                return self.same_definitions(a, b, met)
            case (List(a), List(b)) | (Option(a), Option(b)):
                return self.same_inside(a, b, met)
            case Fixed(a, n), Fixed(b, m):
                return n == m and self.same_inside(a, b, met)
            case Product(a), Product(b):
                return len(a) == len(b) and all(
                    self.same_inside(x, y, met) for x, y in zip(a, b, strict=True)
                )
            case _:
                return w == r

    def definitions(self, a: str, b: str) -> bool:
        if (a, b) in self.pairs:
            return True
        self.pairs.add((a, b))
        theirs, ours = self.there.by_name[a], self.here.by_name[b]
        if type(theirs) is not type(ours):
            return False
        if isinstance(ours, Enum):
            return True
        if isinstance(ours, Struct):
            return self.fields(theirs.fields, ours.fields, b)
        known = {variant.name: variant for variant in ours.variants}
        return all(
            self.fields(variant.fields, known[variant.name].fields, f"{b}.{variant.name}")
            for variant in theirs.variants
            if variant.name in known
        )

    def matches(self, w: tuple[Field, ...], r: tuple[Field, ...], key: str) -> dict[str, Field]:
        """The reader's field for each name of the writer's."""
        own = {item.name: item for item in r}
        found = {item.name: own[item.name] for item in w if item.name in own}
        for item in r:
            old = self.reader.renamed.get((key, item.name))
            if old in {part.name for part in w} and old not in found and item.name not in {p.name for p in w}:
                found[old] = item
        return found

    def fields(self, w: tuple[Field, ...], r: tuple[Field, ...], key: str) -> bool:
        found = self.matches(w, r, key)
        for item in w:
            if item.name in found and not self.fits(item.type, found[item.name].type):
                return False
        there = {item.name for item in found.values()}
        return all(
            item.name in there
            or (key, item.name) in self.reader.defaults
            or isinstance(item.type, (Option, List))
            or item.type == Scalar("bytes")
            for item in r
        )

    # --- what a value becomes ---

    def read(self, data: bytes) -> Any:
        """The plain value; `Fault` where the bytes are none."""
        self.data = data
        self.at = 0
        self.deep = 0
        root = self.there.root
        if isinstance(root, Ref):
            return self.definition(root.name, self.here.root.name, top=True)
        return self.value(root, self.here.root)

    def take(self, size: int) -> bytes:
        if len(self.data) - self.at < size:
            raise Fault("UnexpectedEof", self.at)
        self.at += size
        return self.data[self.at - size : self.at]

    def count(self, size: float) -> int:
        start = self.at
        number = struct.unpack("<I", self.take(4))[0]
        if size == 0:
            if number > MAX_EMPTY:
                raise Fault("DecodeError", start)
        elif number > (len(self.data) - self.at) // size:
            raise Fault("UnexpectedEof", start)
        return number

    def value(self, w: Type, r: Type | None) -> Any:
        """One value of the writer's type; `r` is None where the reader has no place for it."""
        if isinstance(r, Option) and not isinstance(w, Option):
            return self.value(w, r.item)
        start = self.at
        match w:
            case Scalar("bool"):
                number = self.take(1)[0]
                if number > 1:
                    raise Fault("InvalidBool", start)
                return bool(number)
            case Scalar("str"):
                size = self.count(1)
                try:
                    return self.take(size).decode()
                except UnicodeDecodeError as error:
                    raise Fault("InvalidUtf8", start + 4 + error.start) from None
            case Scalar("bytes"):
                data = self.take(self.count(1))
                return data if not isinstance(r, List) else [into(r.item, number) for number in data]
            case Scalar(name):
                number = struct.unpack(f"<{FORMATS[name]}", self.take(SIZES[name]))[0]
                return into(r, number)
            case Option(item):
                flag = self.take(1)[0]
                if flag > 1:
                    raise Fault("InvalidBool", start)
                return self.value(item, None if r is None else r.item) if flag else None
            case Product(items):
                return tuple(
                    self.value(item, None if r is None else r.items[i]) for i, item in enumerate(items)
                )
            case List(item):
                size = least(item, self.sizes)
                count = self.count(size)
                if size == 0 and r is None:
                    return []
                return [self.value(item, None if r is None else r.item) for _ in range(count)]
            case Fixed(item, count):
                size = least(item, self.sizes)
                if len(self.data) - self.at < size * count:
                    raise Fault("UnexpectedEof", self.at)
                return [self.value(item, None if r is None else r.item) for _ in range(count)]
            case Ref(name):
                return self.definition(name, None if r is None else r.name)

    def definition(self, a: str, b: str | None, top: bool = False) -> Any:
        item = self.there.by_name[a]
        own = None if b is None else self.here.by_name[b]
        start = self.at
        if isinstance(item, Enum):
            index = struct.unpack("<I", self.take(4))[0]
            if index >= len(item.members):
                raise Fault("InvalidVariant", start)
            if own is not None and item.members[index] not in own.members:
                raise Fault("UnknownVariant" if top else "InvalidVariant", start)
            return "member", item.members[index]
        if a in self.again:
            if self.deep == MAX_DEPTH:
                raise Fault("DecodeError", start)
            self.deep += 1
        try:
            if isinstance(item, Struct):
                return "struct", self.parts(item.fields, None if own is None else own.fields, b)
            index = struct.unpack("<I", self.take(4))[0]
            if index >= len(item.variants):
                raise Fault("InvalidVariant", start)
            variant = item.variants[index]
            if own is None:
                return "variant", variant.name, self.parts(variant.fields, None, None)
            mine = next((v for v in own.variants if v.name == variant.name), None)
            if mine is None:
                if top:
                    self.parts(variant.fields, None, None)
                raise Fault("UnknownVariant" if top else "InvalidVariant", start)
            return "variant", mine.name, self.parts(variant.fields, mine.fields, f"{b}.{mine.name}")
        finally:
            if a in self.again:
                self.deep -= 1

    def parts(self, w: tuple[Field, ...], r: tuple[Field, ...] | None, key: str | None) -> dict[str, Any]:
        if r is None or key is None:
            return {item.name: self.value(item.type, None) for item in w}
        found = self.matches(w, r, key)
        values: dict[str, Any] = {}
        for item in w:
            mine = found.get(item.name)
            value = self.value(item.type, None if mine is None else mine.type)
            if mine is not None:
                values[mine.name] = value
        for item in r:
            if item.name not in values:
                values[item.name] = self.absent(item, key)
        return values

    def absent(self, item: Field, key: str) -> Any:
        if (key, item.name) in self.reader.defaults:
            return self.reader.defaults[key, item.name]
        if isinstance(item.type, Option):
            return None
        return b"" if item.type == Scalar("bytes") else []


def into(r: Type | None, number: Any) -> Any:
    if isinstance(r, Option):
        return into(r.item, number)
    if isinstance(r, Scalar) and r.name in ("f32", "f64"):
        return float(number)
    return number


# --- comparing ---


def plain(tp: Type, value: Any, tree: Tree) -> Any:
    """What the library decoded, as a plain value."""
    match tp:
        case Scalar("bytes"):
            return bytes(value)
        case Scalar("f32" | "f64"):
            return float(value)
        case Scalar("bool"):
            return bool(value)
        case Scalar("str"):
            return value
        case Scalar():
            return int(value)
        case List(item) | Fixed(item, _):
            return [plain(item, inner, tree) for inner in value]
        case Option(item):
            return None if value is None else plain(item, value, tree)
        case Product(items):
            return tuple(plain(item, inner, tree) for item, inner in zip(items, value, strict=True))
        case Ref(name):
            item = tree.by_name[name]
            if isinstance(item, Enum):
                return "member", value.name if isinstance(value, enum.Enum) else item.members[int(value)]
            if isinstance(item, Struct):
                get = value.__getitem__ if isinstance(value, np.void) else value.__getattribute__
                return "struct", {part.name: plain(part.type, get(part.name), tree) for part in item.fields}
            own = type(value).__name__
            variant = next(variant for variant in item.variants if variant.name == own)
            return (
                "variant",
                own,
                {p.name: plain(p.type, getattr(value, p.name), tree) for p in variant.fields},
            )


def equal(a: Any, b: Any) -> bool:
    """Two plain values, NaNs being equal."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return bool(a == b)


__all__ = ["Fault", "Generator", "Reader", "Resolver", "codec", "encode", "equal", "ordered", "plain"]
