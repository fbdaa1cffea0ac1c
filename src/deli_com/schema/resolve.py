"""The reader's side of two schemas: a plan for each pair of definitions, or a list of all differences.

A pair is a definition of the writer and a class of the reader in the same place of the two types. Each pair
is compared once, so recursive types end. Parts that are equal, down to names and order, are read by the
reader's own program; coding/adapt.pyx compiles the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from deli_com.errors import SchemaMismatch
from deli_com.schema.differences import Differences, inside
from deli_com.schema.measure import least_size, least_sizes, recursive, too_deep
from deli_com.schema.plan import (
    Around,
    EnumPair,
    Number,
    Numbers,
    Pair,
    Plan,
    Present,
    Refer,
    Resolution,
    Rows,
    Same,
    SealedPair,
    StructPair,
)
from deli_com.schema.text import member_names, tree_of, type_of, wire_name
from deli_com.schema.tree import (
    Definition,
    Enum,
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
)
from deli_com.types import nodes
from deli_com.types.instance import RecordType, record_spec
from deli_com.types.kinds import MISSING

__all__ = ["resolve"]

MAX_STEPS = 65536  # limit on the fields of all pairs together

U8 = Scalar("u8")


def resolve(node: nodes.Node, name: str, writer: Tree) -> Resolution:
    """Compare the reader's type with the writer's schema.

    Raises
    ------
    SchemaMismatch
        Holds every difference that prevents reading.
    """
    return _Resolver(node, name, writer).resolve()


class _Resolver:
    def __init__(self, node: nodes.Node, name: str, writer: Tree) -> None:
        self.node = node
        self.writer = writer
        self.by_name = writer.by_name
        self.sizes = least_sizes(writer)
        self.recursive = recursive(writer)
        self.names = {cls: own for own, cls in tree_of(node)[1].items()}
        self.found = Differences(name)
        self.pairs: dict[tuple[str, Any], Pair] = {}
        self.todo: deque[tuple[Pair, Definition | Variant, str]] = deque()
        self.sizeless: list[tuple[Around | Rows, str]] = []
        self.steps = 0
        self.moved: dict[Pair, str] = {}  # variants with another index at the writer

    def resolve(self) -> Resolution:
        why = too_deep(self.writer)
        if why is not None:
            raise SchemaMismatch(self.found.name, [f"what is sent is too deep: {why}"])
        plan = self.compare(self.writer.root, self.node, "")
        if plan is None:
            self.found.say("the message", f"{self.show(self.node)} here, {self.writer.root} there")
        while self.todo:
            pair, definition, path = self.todo.popleft()
            if isinstance(pair, EnumPair):
                assert isinstance(definition, Enum)
                self.members(pair, definition)
            elif isinstance(pair, SealedPair):
                assert isinstance(definition, Sealed)
                self.variants(pair, definition, path)
            else:
                assert isinstance(definition, (Struct, Variant))
                self.fields(pair, definition, path)
            if self.steps > MAX_STEPS:
                raise SchemaMismatch(self.found.name, ["what is sent is too large to be compared"])
        self.found.check()
        assert plan is not None
        self.spread()
        for around, path in self.sizeless:
            # A count without element bytes would let a short message make a value of any size.
            if around.changed:
                self.found.say(path or "the message", "elements without bytes there, and other ones here")
        self.found.check()
        return Resolution(plan, self.writer, self.sizes, self.recursive)

    # --- definitions ---

    def pair(self, name: str, cls: Any, path: str) -> Pair | None:
        """The pair of the writer's definition and the reader's class; None if they are of two kinds."""
        key = (name, cls)
        if key in self.pairs:
            return self.pairs[key]
        definition = self.by_name[name]
        made: Pair
        if not isinstance(cls, RecordType):
            if not isinstance(definition, Enum):
                return None
            made = EnumPair(cls)
        elif record_spec(cls).sealed:
            if not isinstance(definition, Sealed):
                return None
            made = SealedPair(cls, name in self.recursive, self.sizes[name])
        else:
            if not isinstance(definition, Struct):
                return None
            made = StructPair(cls, name in self.recursive, self.sizes[name])
        self.pairs[key] = made
        self.todo.append((made, definition, path))
        return made

    def members(self, pair: EnumPair, definition: Enum) -> None:
        own = dict(zip(member_names(pair.cls), pair.cls, strict=True))
        known = {**pair.cls.__members__, **own}
        pair.members = [known.get(name) for name in definition.members]
        pair.changed = definition.members != tuple(own)
        self.steps += len(definition.members)

    def variants(self, pair: SealedPair, definition: Sealed, path: str) -> None:
        own = {wire_name(cls): cls for cls in record_spec(pair.cls).variants.values()}
        pair.changed = [*own] != [variant.name for variant in definition.variants]
        places = {name: i for i, name in enumerate(own)}
        others: list[str] = []  # variants that the reader lacks
        for variant in definition.variants:
            self.steps += 1
            cls = own.get(variant.name)
            if cls is None:
                pair.variants.append(variant)
                others.append(variant.name)
                continue
            least = sum(least_size(field.type, self.sizes) for field in variant.fields)
            inner = StructPair(cls, False, least)
            self.pairs[f"{definition.name}.{variant.name}", cls] = inner
            place, here = len(pair.variants), places[variant.name]
            if others and place != here:
                self.moved[inner] = f"variant {place} there, behind {others[-1]}, and {here} here"
            pair.variants.append(inner)
            self.todo.append((inner, variant, inside(path, variant.name)))

    def fields(self, pair: StructPair, definition: Struct | Variant, path: str) -> None:
        spec = record_spec(pair.cls)
        theirs = {field.name: i for i, field in enumerate(definition.fields)}
        reads: dict[int, int] = {}  # index at the writer -> index here
        left = []
        for i, own in enumerate(spec.fields):
            if own.wire_name in theirs:
                reads[theirs[own.wire_name]] = i
            else:
                left.append(i)
        for i in left:
            own = spec.fields[i]
            place = next(
                (theirs[old] for old in own.renamed_from if theirs.get(old, -1) not in {-1, *reads}), None
            )
            if place is not None:
                reads[place] = i
        here = spec.nodes()
        self.steps += len(definition.fields) + len(here)
        plans: dict[int, Plan | None] = {}
        for place, i in sorted(reads.items(), key=lambda item: item[1]):
            where = inside(path, spec.fields[i].wire_name)
            node = here[i][1]
            plans[place] = self.compare(definition.fields[place].type, node, where)
            if plans[place] is None:
                name = spec.fields[i].wire_name
                self.found.differ(name, where, self.show(node), str(definition.fields[place].type))
        for place, field in enumerate(definition.fields):
            if place in reads:
                plan = plans[place]
                if plan is not None:
                    pair.steps.append((here[reads[place]][0], plan))
            else:
                pair.steps.append(field)
                self.found.only_there(place, field.name, str(field.type))
        for i, own in enumerate(spec.fields):
            if i in reads.values():
                continue
            node = here[i][1]
            default, factory = _absent(own, node)
            if default is MISSING and factory is MISSING:
                where = inside(path, own.wire_name)
                self.found.only_here(i, own.wire_name, where, self.show(node))
            pair.missing.append((own.name, node, default, factory))
        self.found.add_rows(self.moved.get(pair, ""))
        order = [reads.get(place) for place in range(len(definition.fields))]
        pair.changed = order != list(range(len(here)))

    # --- types ---

    def show(self, node: nodes.Node) -> str:
        return str(type_of(node, self.names))

    def compare(self, there: Type, node: nodes.Node, path: str) -> Plan | None:
        """The plan that reads a type into a node; None if that is not possible."""
        match node:
            case nodes.NumberNode(kind):
                if not isinstance(there, Scalar):
                    return None
                if there.name == kind.name:
                    return Same(node)
                return Number(there.name, node) if widens(there.name, kind.name) else None
            case nodes.LeafNode(name):
                return Same(node) if there == Scalar(name) else None
            case (
                nodes.StructNode(cls) | nodes.SealedNode(cls) | nodes.UnionNode(cls, _) | nodes.EnumNode(cls)
            ):
                pair = self.pair(there.name, cls, path) if isinstance(there, Ref) else None
                return None if pair is None else Refer(node, pair)
            case nodes.OptionNode(item):
                if isinstance(there, Option):
                    return self.around(node, ((there.item, item),), path)
                plan = self.compare(there, item, path)
                return None if plan is None else Present(plan)
            case nodes.ProductNode(items):
                if not isinstance(there, Product) or len(there.items) != len(items):
                    return None
                return self.around(node, tuple(zip(there.items, items, strict=True)), path)
            case nodes.ShapedNode(item, _):  # read flat; the reader of the struct sets the shape
                return self.compare(there, item, path)
            case nodes.FixedNode(item, count):
                if not isinstance(there, Fixed) or there.count != count:
                    return None
                if isinstance(item, nodes.NumberNode) and isinstance(there.item, Scalar):
                    return self.numbers(there.item.name, item, node)
                return self.around(node, ((there.item, item),), path, there.item)
        return self.items(there, node, path)

    def items(self, there: Type, node: nodes.Node, path: str) -> Plan | None:
        # All list-like nodes.
        if isinstance(there, List):
            item = there.item
        elif there == Scalar("bytes"):
            item = U8
        else:
            return None
        match node:
            case nodes.ArrayNode(kind) | nodes.NdArrayNode(kind):
                if not isinstance(item, Scalar):
                    return None
                return self.numbers(item.name, nodes.NumberNode(kind), node)
            case nodes.StructuredNode(cls):
                pair = self.pair(item.name, cls, f"{path}[]") if isinstance(item, Ref) else None
                if not isinstance(pair, StructPair):
                    return None
                rows = Rows(node, pair, pair.least)
                if pair.least == 0:
                    self.sizeless.append((rows, path))
                return rows
            case nodes.ListNode(inner) | nodes.TupleNode(inner):
                if isinstance(inner, nodes.NumberNode) and isinstance(item, Scalar) and not inner.nanoseconds:
                    return self.numbers(item.name, inner, node)
                return self.around(node, ((item, inner),), path, item)
            case _:
                raise AssertionError(f"no comparison for {node!r}")

    def numbers(self, source: str, item: nodes.NumberNode, node: nodes.Node) -> Plan | None:
        if source == item.kind.name:
            return Same(node)
        return Numbers(source, node) if widens(source, item.kind.name) else None

    def around(
        self,
        node: nodes.Node,
        pairs: tuple[tuple[Type, nodes.Node], ...],
        path: str,
        item: Type | None = None,
    ) -> Plan | None:
        plans = []
        for i, (there, inner) in enumerate(pairs):
            piece = f"{path}[]" if item is not None else f"{path}[{i}]" if len(pairs) > 1 else path
            plans.append(self.compare(there, inner, piece))
        known = tuple(plan for plan in plans if plan is not None)
        if len(known) < len(plans):
            return None
        least = 0 if item is None else least_size(item, self.sizes)
        made = Around(node, known, least)
        if item is not None and least == 0:
            self.sizeless.append((made, path))
        return made

    # --- which pairs need conversion ---

    def spread(self) -> None:
        """Mark each pair as changed if a pair inside it has changed."""
        above: dict[int, list[Pair]] = {}
        for pair in self.pairs.values():
            inner: list[Pair] = []
            if isinstance(pair, SealedPair):
                inner = [variant for variant in pair.variants if isinstance(variant, StructPair)]
            elif isinstance(pair, StructPair):
                for plan in pair.plans():
                    inner += _pairs_in(plan)
                    pair.changed = pair.changed or _differs(plan)
            for item in inner:
                above.setdefault(id(item), []).append(pair)
        todo = [pair for pair in self.pairs.values() if pair.changed]
        while todo:
            for outer in above.get(id(todo.pop()), ()):
                if not outer.changed:
                    outer.changed = True
                    todo.append(outer)


def widens(source: str, target: str) -> bool:
    """Whether every number of the source kind is also one of the target kind."""
    if source not in NUMBERS or target not in NUMBERS:
        return False
    family, size = source[0], int(source[1:])
    other, room = target[0], int(target[1:])
    if family == other or (family == "u" and other == "i"):
        return room > size
    return family in "ui" and target == "f64" and size <= 32


NUMBERS = frozenset({"u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64"})


def _pairs_in(plan: Plan) -> Iterator[Pair]:
    match plan:
        case Refer() | Rows():
            yield plan.pair
        case Around():
            for item in plan.items:
                yield from _pairs_in(item)
        case Present():
            yield from _pairs_in(plan.item)


def _differs(plan: Plan) -> bool:
    # Whether the plan converts anything, without looking into its pairs.
    match plan:
        case Number() | Numbers() | Present():
            return True
        case Around():
            return any(_differs(item) for item in plan.items)
        case _:
            return False


def _absent(own: Any, node: nodes.Node) -> tuple[Any, Any]:
    # The default or the factory of a field that is not sent. Both are MISSING if the field has none.
    if own.default is None and isinstance(node, nodes.NumberNode):
        return MISSING, MISSING  # a dimension, which encoding takes from the array
    if own.default is not MISSING or own.factory is not MISSING:
        return own.default, own.factory
    match node:
        case nodes.OptionNode():
            return None, MISSING
        case nodes.LeafNode("bytes"):
            return b"", MISSING
        case nodes.ListNode():
            return MISSING, list
        case nodes.TupleNode():
            return (), MISSING
        case nodes.ArrayNode(kind):
            return MISSING, _Empty("array", kind.typecode)
        case nodes.NdArrayNode(kind):
            return MISSING, _Empty("numpy", kind.numpy)
        case nodes.StructuredNode(cls):
            return MISSING, _Empty("rows", cls)
        case _:
            return MISSING, MISSING


class _Empty:
    # Makes an empty array.
    __slots__ = ("of", "what")

    def __init__(self, what: str, of: Any) -> None:
        self.what = what
        self.of = of

    def __call__(self) -> Any:
        if self.what == "array":
            import array

            return array.array(self.of)
        import numpy

        if self.what == "numpy":
            return numpy.empty(0, self.of)
        from deli_com.coding.columns import Columns  # type: ignore[import-not-found]

        return numpy.empty(0, Columns.of(self.of).dtype)
