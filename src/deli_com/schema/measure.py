"""Properties of a schema's types that need no value: least sizes, recursion, nesting depth."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from deli_com.schema.tree import (
    SIZES,
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
    refs,
    types_in,
)
from deli_com.types.references import Way, components
from deli_com.types.references import least_sizes as least_sizes_of
from deli_com.types.references import recursive as is_recursive

__all__ = [
    "MAX_CHAIN",
    "MAX_LEVELS",
    "MAX_SIZE",
    "depth_of",
    "least_size",
    "least_sizes",
    "recursive",
    "too_deep",
    "too_large",
]

MAX_SIZE = 2**40  # bytes; the same limit as in types/graph.py
MAX_CHAIN = 200  # definitions nested in one another
MAX_LEVELS = 2048  # values nested in one another; each takes about 600 bytes of the decoder's stack
MAX_STEPS = 2**18  # limit on the steps of all programs, and on the checked columns of all tables
MAX_REPEATED = 1024  # limit on the steps of one program that come from inlined structs
MAX_CHECKED = 2**16  # checked columns of one table (coding/columns.pyx)
MAX_DEPTH = 200  # nesting of values of recursive types (coding/program.pxd)


def depth_of(tp: Type) -> int:
    """The nesting depth of a type expression: 1 for a scalar or a name."""
    match tp:
        case List(item) | Fixed(item, _) | Option(item):
            return 1 + depth_of(item)
        case Product(items):
            return 1 + max(map(depth_of, items), default=0)
        case _:
            return 1


def _units(definition: Definition) -> list[tuple[int, list[Type]]]:
    # The forms that a value can have: their own bytes, and the types of their parts.
    if isinstance(definition, Struct):
        return [(0, [item.type for item in definition.fields])]
    if isinstance(definition, Sealed):
        return [(4, [item.type for item in variant.fields]) for variant in definition.variants]
    return [(4, [])]


def _needed(tp: Type) -> Iterator[str]:
    # The definitions of which every value of the type contains a value.
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
    """Least bytes of a value, at most `MAX_SIZE` + 1. `sizes` holds those of the definitions it names."""
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
    """Least bytes of a value of each definition, in time proportional to the text.

    A definition without an entry contains itself without a list or option in between, so no value is finite.
    Sizes over `MAX_SIZE` are given as `MAX_SIZE` + 1.
    """
    return least_sizes_of(
        Way(
            definition.name,
            {name for part in parts for name in _needed(part)},
            functools.partial(_sum, own, parts),
        )
        for definition in tree.definitions
        for own, parts in _units(definition)
    )


def _sum(own: int, parts: list[Type], sizes: Mapping[str, int]) -> int:
    return min(own + sum(least_size(part, sizes) for part in parts), MAX_SIZE + 1)


def _inside(tree: Tree) -> dict[str, list[str]]:
    return {item.name: [name for tp in types_in(item) for name in refs(tp)] for item in tree.definitions}


def recursive(tree: Tree) -> set[str]:
    """The definitions whose values can contain a value of the same definition."""
    inside = _inside(tree)
    return {name for group in components(inside) if is_recursive(group, inside) for name in group}


def too_deep(tree: Tree) -> str | None:
    """Why no decoder is made for these types: their values would be nested too deep. None if they are not."""
    again = recursive(tree)
    by_name = tree.by_name
    chain: dict[str, int] = {}  # nesting of definitions, without recursive ones
    plain: dict[str, int] = {}  # nesting of decoder calls, without recursive definitions
    round_: dict[str, int] = {}  # calls from one recursive value to the next; MAX_DEPTH of these are counted
    for component in components(_inside(tree)):
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
        return f"definitions are nested more than {MAX_CHAIN} deep"
    deepest = max((plain[name] + MAX_DEPTH * round_[name] for name in roots), default=0)
    if depth_of(tree.root) + deepest > MAX_LEVELS:
        return f"values can be nested more than {MAX_LEVELS} deep"
    return None


def too_large(tree: Tree) -> str | None:
    """Why no programs are made for these types: short texts can ask for very long programs. None if they fit.

    This is an estimate. The steps of a struct are inlined where it is used (coding/program.pyx). Fields that
    are checked as columns of a table are listed, with one entry for each item of a fixed array
    (coding/columns.pyx).
    """
    inside = _inside(tree)
    by_name = tree.by_name
    steps: dict[str, int] = {}  # steps that a value of the definition adds to a program
    checks: dict[str, int] = {}
    all_steps = all_checks = 0
    for component in components(inside):
        again = is_recursive(component, inside)
        for name in component:
            definition = by_name[name]
            steps[name], checks[name] = 1, int(isinstance(definition, Enum))
            if isinstance(definition, Enum):
                continue
            for _, parts in _units(definition):
                own = min(sum(_steps(tp, steps) for tp in parts), len(parts) + MAX_REPEATED)
                flags = sum(_checks(tp, checks) for tp in parts)
                all_steps += own
                all_checks += flags if flags <= MAX_CHECKED else 0  # larger ones are not decoded as a table
                if isinstance(definition, Struct) and not again:
                    steps[name], checks[name] = own + 2, flags
    if all_steps > MAX_STEPS or all_checks > MAX_STEPS:
        return f"it takes some {max(all_steps, all_checks)} steps to read, over the limit of {MAX_STEPS}"
    return None


def _steps(tp: Type, steps: Mapping[str, int]) -> int:
    match tp:
        case Ref(name):
            return steps.get(name, 1)
        case List(Ref()) | Fixed(Ref(), _):
            return 1  # the definition has its own program already
        case List(item) | Option(item) | Fixed(item, _):
            return 1 + _steps(item, steps)
        case Product(items):
            return 2 + sum(_steps(item, steps) for item in items)
        case _:
            return 1


def _checks(tp: Type, checks: Mapping[str, int]) -> int:
    match tp:
        case Scalar(name):
            return int(name == "bool")
        case Ref(name):
            return checks.get(name, 0)
        case Fixed(item, count):
            return _checks(item, checks) * count
        case _:
            return 0
