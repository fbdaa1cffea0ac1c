"""What can be said of a schema's types without a value: least sizes, recursion, how deep values nest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from deli_com.schema.tree import (
    SIZES,
    Definition,
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
    refs,
    types_in,
)

__all__ = [
    "MAX_CHAIN",
    "MAX_LEVELS",
    "MAX_SIZE",
    "depth_of",
    "least_size",
    "least_sizes",
    "recursive",
    "too_deep",
]

MAX_SIZE = 2**40  # bytes, as types/graph.py has it for classes
MAX_CHAIN = 200  # definitions within one another
MAX_LEVELS = 2048  # values within one another: some 600 bytes of a decoder's stack each
MAX_DEPTH = 200  # values of recursive types within one another (coding/program.pxd)


def depth_of(tp: Type) -> int:
    """How many types stand within one another in a type expression: 1 for a scalar or a name."""
    match tp:
        case List(item) | Fixed(item, _) | Option(item):
            return 1 + depth_of(item)
        case Product(items):
            return 1 + max(map(depth_of, items), default=0)
        case _:
            return 1


def _units(definition: Definition) -> list[tuple[int, list[Type]]]:
    # The ways to make a value: bytes of their own, and the types of the parts.
    if isinstance(definition, Struct):
        return [(0, [item.type for item in definition.fields])]
    if isinstance(definition, Sealed):
        return [(4, [item.type for item in variant.fields]) for variant in definition.variants]
    return [(4, [])]


@dataclass(slots=True)
class _Unit:
    # One way to make a value of a definition, while sizes of parts are not known.
    missing: int  # definitions
    own: int  # bytes
    parts: list[Type]
    name: str


def _needed(tp: Type) -> Iterator[str]:
    # The definitions of which each value of the type holds one.
    match tp:
        case Ref(name):
            yield name
        case Fixed(item, count) if count:
            yield from _needed(item)
        case Product(items):
            for item in items:
                yield from _needed(item)
        case _:
            pass


def least_size(tp: Type, sizes: Mapping[str, int]) -> int:
    """Least bytes of a value; `sizes` has those of the definitions it names. At most `MAX_SIZE` + 1."""
    match tp:
        case Scalar(name):
            found = SIZES.get(name, 4)
        case Ref(name):
            found = sizes[name]
        case Option():
            found = 1
        case List():
            found = 4
        case Fixed(item, count):
            found = least_size(item, sizes) * count if count else 0
        case Product(items):
            found = sum(least_size(item, sizes) for item in items)
    return min(found, MAX_SIZE + 1)


def least_sizes(tree: Tree) -> dict[str, int]:
    """Least bytes of a value of each definition, in time that grows with the text.

    A definition without an entry holds itself without a list or option in between: no value could end.
    Sizes over `MAX_SIZE` are `MAX_SIZE` + 1.
    """
    # Knuth's generalization of Dijkstra's algorithm: what is smallest is known first.
    found: dict[str, int] = {}
    ready: list[tuple[int, str]] = []
    waiting: dict[str, list[_Unit]] = {}
    for definition in tree.definitions:
        for own, parts in _units(definition):
            needed = {name for part in parts for name in _needed(part)}
            if not needed:
                heappush(ready, (_sum(own, parts, found), definition.name))
                continue
            unit = _Unit(len(needed), own, parts, definition.name)
            for name in needed:
                waiting.setdefault(name, []).append(unit)
    while ready:
        size, name = heappop(ready)
        if name in found:
            continue
        found[name] = size
        for unit in waiting.pop(name, ()):
            unit.missing -= 1
            if unit.missing == 0:
                heappush(ready, (_sum(unit.own, unit.parts, found), unit.name))
    return found


def _sum(own: int, parts: list[Type], sizes: Mapping[str, int]) -> int:
    return min(own + sum(least_size(part, sizes) for part in parts), MAX_SIZE + 1)


def _components(tree: Tree) -> list[list[str]]:
    # Tarjan's strongly connected components without recursion; what a component refers to comes before it.
    inside = {item.name: [name for tp in types_in(item) for name in refs(tp)] for item in tree.definitions}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    held: list[str] = []
    on_stack: set[str] = set()
    result: list[list[str]] = []
    for start in inside:
        if start in order:
            continue
        walk: list[tuple[str, Iterator[str]]] = []

        def enter(name: str) -> None:
            order[name] = low[name] = len(order)
            held.append(name)
            on_stack.add(name)
            walk.append((name, iter(inside[name])))  # noqa: B023

        enter(start)
        while walk:
            name, rest = walk[-1]
            for child in rest:
                if child not in order:
                    enter(child)
                    break
                if child in on_stack:
                    low[name] = min(low[name], order[child])
            else:
                walk.pop()
                if walk:
                    low[walk[-1][0]] = min(low[walk[-1][0]], low[name])
                if low[name] == order[name]:
                    component: list[str] = []
                    while not component or component[-1] != name:
                        component.append(held.pop())
                        on_stack.discard(component[-1])
                    result.append(component)
    return result


def recursive(tree: Tree) -> set[str]:
    """The definitions of which a value can hold another of the same."""
    by_name = tree.by_name
    found: set[str] = set()
    for component in _components(tree):
        first = by_name[component[0]]
        if len(component) > 1 or any(first.name in refs(tp) for tp in types_in(first)):
            found.update(component)
    return found


def too_deep(tree: Tree) -> str | None:
    """Why no decoder is made for these types: how their values would be within one another; or None."""
    again = recursive(tree)
    by_name = tree.by_name
    chain: dict[str, int] = {}  # definitions within one another, recursive ones apart
    plain: dict[str, int] = {}  # calls of a decoder within one another, those of recursive ones apart
    round_: dict[str, int] = {}  # calls from one recursive value to the next; MAX_DEPTH of these are counted
    for component in _components(tree):
        names = {ref for name in component for tp in types_in(by_name[name]) for ref in refs(tp)} - {
            *component
        }
        own = max((depth_of(tp) for name in component for tp in types_in(by_name[name])), default=0)
        recurs = component[0] in again
        links = max((chain[name] for name in names), default=0) + (0 if recurs else 1)
        calls = max((plain[name] for name in names), default=0) + (0 if recurs else own)
        longest = max([round_[name] for name in names] + ([own] if recurs else [0]))
        for name in component:
            chain[name], plain[name], round_[name] = links, calls, longest
    roots = [*refs(tree.root)]
    if max((chain[name] for name in roots), default=0) > MAX_CHAIN:
        return f"definitions are within one another more than {MAX_CHAIN} deep"
    deepest = max((plain[name] + MAX_DEPTH * round_[name] for name in roots), default=0)
    if depth_of(tree.root) + deepest > MAX_LEVELS:
        return f"values can be within one another more than {MAX_LEVELS} deep"
    return None
