"""Graphs of things that refer to one another: components and least sizes, in linear time.

The things are classes (types/graph.py) or the definitions of a schema text (schema/measure.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Generic, TypeVar

__all__ = ["Way", "components", "least_sizes", "recursive"]

K = TypeVar("K", bound=Hashable)


def components(inside: Mapping[K, Collection[K]]) -> list[list[K]]:
    """The groups whose members can reach one another. A group comes after those that it refers to.

    Parameters
    ----------
    inside : mapping
        For each thing those that it refers to, which must be keys, too.
    """
    # Tarjan's algorithm, without recursion.
    order: dict[K, int] = {}
    low: dict[K, int] = {}
    held: list[K] = []
    on_stack: set[K] = set()
    result: list[list[K]] = []
    walk: list[tuple[K, Iterator[K]]] = []

    def enter(name: K) -> None:
        order[name] = low[name] = len(order)
        held.append(name)
        on_stack.add(name)
        walk.append((name, iter(inside[name])))

    for start in inside:
        if start in order:
            continue
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
                    component: list[K] = []
                    while not component or component[-1] != name:
                        component.append(held.pop())
                        on_stack.discard(component[-1])
                    result.append(component)
    return result


def recursive(component: Collection[K], inside: Mapping[K, Collection[K]]) -> bool:
    """Whether the members of a component can reach themselves."""
    return len(component) > 1 or any(name in inside[name] for name in component)


@dataclass(slots=True)
class Way(Generic[K]):
    """One form that a value of a thing can have.

    Attributes
    ----------
    of : hashable
        The thing.
    needed : set
        The things of which such a value contains a value.
    size : callable
        Computes its least bytes from those of the needed things.
    """

    of: K
    needed: set[K]
    size: Callable[[Mapping[K, int]], int]


def least_sizes(ways: Iterable[Way[K]]) -> dict[K, int]:
    """Least bytes of a value of each thing. A thing that contains itself in every form has no entry."""
    # Knuth's generalisation of Dijkstra's algorithm: sizes are found in increasing order.
    found: dict[K, int] = {}
    ready: list[tuple[int, int, Way[K]]] = []  # the middle number is unique, so ways are never compared
    waiting: dict[K, list[tuple[int, Way[K]]]] = {}
    missing: list[int] = []
    for number, way in enumerate(ways):
        missing.append(len(way.needed))
        if not way.needed:
            heappush(ready, (way.size(found), number, way))
        for name in way.needed:
            waiting.setdefault(name, []).append((number, way))
    while ready:
        size, _, way = heappop(ready)
        if way.of in found:
            continue
        found[way.of] = size
        for number, other in waiting.pop(way.of, ()):
            missing[number] -= 1
            if missing[number] == 0:
                heappush(ready, (other.size(found), number, other))
    return found
