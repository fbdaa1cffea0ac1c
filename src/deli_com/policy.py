"""How values of a class are delivered: the class keywords ``policy``, ``key`` and ``retain``.

==============  ====================================================================
policy          what happens to a client that is behind
==============  ====================================================================
``disconnect``  it gets everything, and is closed where it is too far behind
``wait``        the same, and awaited sends wait for it as for the others
``skip``        it gets the last bytes of the class that fit the bound, never closed
``latest``      it gets the newest value of each key, never closed
==============  ====================================================================

They count where the class is the message itself; in a field of another class they mean nothing.
Nothing of this is on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from deli_com import plan
from deli_com._record import record_spec
from deli_com.schema import describe

if TYPE_CHECKING:
    from deli_com.spec import Field, Spec

__all__ = ["POLICIES", "Delivery", "Policy", "check_key", "declared", "delivery"]

Policy: TypeAlias = Literal["disconnect", "wait", "skip", "latest"]
POLICIES: tuple[str, ...] = get_args(Policy)

_NAMES = ", ".join(f'"{name}"' for name in POLICIES)
_KEYS = "keys are u8 to i64, bool, str, bytes, enums, and frozen structs, tuple[A, B] and T | None of such"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one class says, or inherits, about its delivery.

    Attributes
    ----------
    policy : str or None
        One of `POLICIES`; None: the server's ``slow_client`` decides.
    key : tuple of str or None
        Names of the fields that tell slots apart, only with ``latest``; None or empty: the class
        has one slot.
    retain : bool
        A new client first gets the newest value of each key; only with ``latest``.
    """

    policy: str | None = None
    key: tuple[str, ...] | None = None
    retain: bool = False


def delivery(cls: Any) -> Delivery:
    """The delivery of a `Codec` class; `TypeError` for anything else, and for `Codec` itself."""
    spec = record_spec(cls)
    if spec is None:
        raise TypeError("Codec itself is no message: name a subclass")
    found = spec.delivery
    assert isinstance(found, Delivery)
    return found


def declared(
    name: str, parent: Delivery | None, fields: tuple[str, ...], *, policy: Any, key: Any, retain: Any
) -> Delivery:
    """What the class `name` with these fields says; None for a keyword that it leaves to `parent`.

    A policy other than the inherited ``latest`` drops the inherited key and retention with it.

    Raises
    ------
    TypeError
        A keyword has a wrong value, or goes with another policy only.
    """
    before = Delivery() if parent is None else parent
    if policy is not None and policy not in POLICIES:
        raise TypeError(f"{name}: policy is one of {_NAMES}, got {policy!r}")
    names = None if key is None else _names(name, fields, key)
    if retain is not None and not isinstance(retain, bool):
        raise TypeError(f"{name}: retain is True or False, got {retain!r}")
    found = before.policy if policy is None else policy
    if found == "latest":
        return Delivery(
            found, before.key if names is None else names, before.retain if retain is None else retain
        )
    for keyword, value in (("key", key), ("retain", retain or None)):
        if value is not None:
            has = "it has none" if found is None else f'its policy is "{found}"'
            raise TypeError(f'{name}: {keyword}={value!r} goes with policy="latest" only, and {has}')
    return Delivery(found)


def _names(name: str, fields: tuple[str, ...], key: Any) -> tuple[str, ...]:
    names = (key,) if isinstance(key, str) else key
    if not isinstance(names, tuple) or not all(isinstance(item, str) for item in names):
        raise TypeError(f"{name}: key is the name of a field or a tuple of such names, got {key!r}")
    for item in names:
        if item not in fields:
            has = f"its fields are {', '.join(fields)}" if fields else "it has no fields"
            raise TypeError(f"{name}: key={key!r} names {item!r}, which is no field of {name}: {has}")
    if len({*names}) < len(names):
        raise TypeError(f"{name}: key={key!r} names a field twice; each field of a key is named once")
    return names


def check_key(spec: Spec, *, final: bool) -> None:
    """Whether the fields of the class's key can be told apart; `TypeError` if not.

    Unless `final`, fields whose annotation does not resolve yet are passed over.
    """
    for name in spec.delivery.key or ():
        item = next(item for item in spec.fields if item.name == name)
        why = _refusal_of(item, final, frozenset())
        if why is not None:
            own = spec.cls.__qualname__
            raise TypeError(
                f"{own}.{name}: {describe(item.annotation)} cannot be in the key of {own}: {why} ({_KEYS})"
            )


def _refusal_of(item: Field, final: bool, above: frozenset[Any]) -> str | None:
    # Why a field cannot be in a key; None: it can, or nobody knows yet.
    node = item.resolve(final=final)
    return None if node is None else _refusal(node, final, above)


def _refusal(node: plan.Node, final: bool, above: frozenset[Any]) -> str | None:
    match node:
        case plan.Number(kind):
            return "nan does not equal itself, and 0.0 equals -0.0" if kind.name in ("f32", "f64") else None
        case plan.Leaf() | plan.Enum():
            return None
        case plan.Option(inner) | plan.Tuple(inner):
            return _refusal(inner, final, above)
        case plan.Product(items):
            found = (_refusal(inner, final, above) for inner in items)
            return next((why for why in found if why is not None), None)
        case plan.Struct(cls):
            return _refusal_of_struct(cls, final, above)
        case plan.Sealed() | plan.Union():
            return "it is a sealed type"
        case _:
            return "lists and arrays are mutable"


def _refusal_of_struct(cls: Any, final: bool, above: frozenset[Any]) -> str | None:
    if cls in above:  # recursive: judged further out
        return None
    spec = record_spec(cls)
    if not spec.frozen:
        return f"{cls.__qualname__} is mutable, frozen=True would make it a key"
    for item in spec.fields:
        why = _refusal_of(item, final, above | {cls})
        if why is not None:
            return f"{cls.__qualname__}.{item.name} is {describe(item.annotation)}, and {why}"
    return None
