"""The part of every generator that is the same: one or two trees, and names that the language allows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import resources

from deli_com.schema.measure import least_size, least_sizes, recursive
from deli_com.schema.schema import Schema
from deli_com.schema.tree import (
    SIZES,
    Definition,
    Enum,
    Field,
    Ref,
    Scalar,
    Sealed,
    Struct,
    Type,
    refs,
    types_in,
)

__all__ = ["MAX_EMPTY", "Names", "Plan", "Spelling", "plain_start", "runtime", "summary"]

MAX_EMPTY = 65536  # zero-size elements in one list (docs/wire.md section 6)


@dataclass
class Plan:
    """One or two schemas, prepared for a generator.

    Attributes
    ----------
    schema, up : Schema
        Schema of the values that the server sends, and of those that clients send, if they do.
    definitions : list of Struct, Sealed and Enum
        Definitions of `schema`, then those that only `up` has.
    """

    schema: Schema
    up: Schema | None = None
    definitions: list[Definition] = field(default_factory=list)
    docs: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    recursive: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, schema: Schema, up: Schema | None) -> Plan:
        """Walk the schemas.

        Raises
        ------
        ValueError
            A name is used in both schemas for different types.
        """
        plan = cls(schema, up)
        known: dict[str, Definition] = {}
        for each in [schema] if up is None else [schema, up]:
            plan.sizes |= least_sizes(each.tree)
            plan.recursive |= recursive(each.tree)
            plan.docs |= _docs(each)
            for definition in each.tree.definitions:
                other = known.get(definition.name)
                if other is None:
                    known[definition.name] = definition
                    plan.definitions.append(definition)
                elif _bare(other) != _bare(definition):
                    raise ValueError(
                        f"{definition.name} has another shape in what clients send than in what the "
                        "server sends: one file can hold one type of a name"
                    )
        return plan

    def least(self, tp: Type) -> int:
        """Least bytes of a value."""
        return least_size(tp, self.sizes)

    def roots(self) -> list[tuple[str, Type]]:
        """The roots that are not definitions, which need a name: ``("Root", type)``."""
        found: list[tuple[str, Type]] = []
        for name, each in (("Root", self.schema), ("UpRoot", self.up)):
            if each is not None and not isinstance(each.tree.root, Ref):
                found.append((name, each.tree.root))
        return found

    def knots(self) -> dict[str, set[str]]:
        """For each recursive definition, the members of its cycle: each can contain the others."""
        inside = {
            each.name: {name for tp in types_in(each) for name in refs(tp)} & self.recursive
            for each in self.definitions
            if each.name in self.recursive
        }
        reach: dict[str, set[str]] = {}
        for start in inside:
            met: set[str] = set()
            todo = [*inside[start]]
            while todo:
                name = todo.pop()
                if name not in met:
                    met.add(name)
                    todo += inside[name]
            reach[start] = met
        return {name: {other for other in met if name in reach[other]} for name, met in reach.items()}

    def inner_first(self) -> list[Definition]:
        """The definitions, each after those that it contains, except in cycles."""
        by_name = {each.name: each for each in self.definitions}
        done: dict[str, Definition] = {}
        entered: set[str] = set()
        todo = [(each.name, False) for each in self.definitions][::-1]
        while todo:
            name, complete = todo.pop()
            if complete:
                done.setdefault(name, by_name[name])
            elif name not in entered:
                entered.add(name)
                todo.append((name, True))
                todo += [(ref, False) for tp in types_in(by_name[name]) for ref in refs(tp)][::-1]
        return [*done.values()]


def _bare(definition: Definition) -> tuple[object, ...]:
    # A definition without its notes.
    if isinstance(definition, Enum):
        return ("enum", definition.members)
    parts = (definition,) if isinstance(definition, Struct) else definition.variants
    return (
        type(definition),
        tuple((part.name, tuple((each.name, each.type) for each in part.fields)) for part in parts),
    )


def _docs(schema: Schema) -> dict[str, str]:
    # Docstrings of a program's own classes, by name. Classes made at run time have none.
    found: dict[str, str] = {}
    for name, cls in (schema._types or {}).items():
        text = vars(cls).get("__doc__") if isinstance(cls, type) else None
        if text:
            found[name] = inspect.cleandoc(text)
    return found


def plain_start(fields: Iterable[Field]) -> tuple[int, str]:
    """The total size in bytes of the leading fields that are numbers or bools, and their kinds.

    A kind is the size of a number in bytes, or ``b`` for a bool. With fewer than two such fields, the result
    is ``(0, "")``.
    """
    names: list[str] = []
    for each in fields:
        if not isinstance(each.type, Scalar) or each.type.name not in SIZES:
            break
        names.append(each.type.name)
    if len(names) < 2:
        return 0, ""
    kinds = "".join("b" if name == "bool" else str(SIZES[name]) for name in names)
    return sum(SIZES[name] for name in names), kinds


class Names:
    """The names of one scope: a keyword, or a name that is taken, gets a trailing ``_``.

    Parameters
    ----------
    reserved : iterable of str
        Keywords, and the names that the runtime uses.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.taken = set(reserved)

    def reserve(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def reserve_all(self, names: Iterable[str]) -> dict[str, str]:
        """Names for the fields or members of one definition. A name that is allowed stays unchanged."""
        wanted = [*names]
        space = Names(self.taken | set(wanted))
        return {
            name: name if name not in self.taken else space.reserve(name + "_")
            for name in wanted
        }  # fmt: skip


class Spelling:
    """The names of definitions, variants and roots in the language, all in one scope.

    Parameters
    ----------
    plan : Plan
    reserved : iterable of str
        Keywords, and the names that the file uses.
    spell : callable
        Converts a name that the language does not allow.

    Attributes
    ----------
    names, roots : dict of str to str
        Names of the definitions, and of the roots that are not definitions.
    variants : dict of (str, str) to str
        Names by sealed type and variant: ``ShapeCircle``.
    """

    def __init__(
        self, plan: Plan, reserved: Iterable[str], spell: Callable[[str], str] = lambda name: name
    ) -> None:
        space = Names(reserved)
        self.names = {each.name: space.reserve(spell(each.name)) for each in plan.definitions}
        self.roots = {name: space.reserve(name) for name, _ in plan.roots()}
        self.variants = {
            (each.name, variant.name): space.reserve(f"{self.names[each.name]}{variant.name}")
            for each in plan.definitions
            if isinstance(each, Sealed)
            for variant in each.variants
        }

    def types(self) -> list[str]:
        return [*self.names.values(), *self.roots.values(), *self.variants.values()]


def runtime(name: str, **values: str) -> str:
    """The text of a runtime file of this package, to be inlined into the generated file."""
    text = resources.files("deli_com.gen").joinpath("runtime", name).read_text(encoding="utf-8")
    for word, value in values.items():
        text = text.replace(f"@{word}@", value)
    return text


def summary(schema: Schema) -> str:
    """The first line of a generated file: the schema from which it was made."""
    return f"{schema.name if len(schema.name) <= 60 else 'a type'}, schema {schema.hash}"
