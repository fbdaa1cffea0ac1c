"""The delivery policy of a class: the class keywords ``policy``, ``key``, ``retain`` and ``max_age``.

==============  ====================================================================
policy          what happens to a client that is behind
==============  ====================================================================
``disconnect``  it gets all messages, and is closed if it is too far behind
``wait``        the same, and awaited sends wait for it as for other clients
``skip``        it gets the latest messages that fit the limit, and is never closed
``latest``      it gets the newest value of each key, and is never closed
==============  ====================================================================

With ``max_age``, what is older than so many seconds is left out, of any policy.

They apply if the class is the whole message. In a field of another class they have no effect. They change
nothing on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from deli_com.types.instance import record_spec

__all__ = ["POLICIES", "Delivery", "Policy", "declared", "delivery"]

Policy: TypeAlias = Literal["disconnect", "wait", "skip", "latest"]
POLICIES: tuple[str, ...] = get_args(Policy)

LEAST_AGE, MOST_AGE = 0.001, 1e8  # seconds

_NAMES = ", ".join(f'"{name}"' for name in POLICIES)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of one class, as declared or inherited.

    Attributes
    ----------
    policy : str or None
        One of `POLICIES`; None if the server's ``slow_client`` decides.
    key : tuple of str or None
        Names of the fields that form the key, only with ``latest``. If None or empty, all values of the class
        have the same key.
    retain : bool
        Whether a new client first gets the newest value of each key; only with ``latest``.
    max_age : float or None
        Seconds after which a value is not delivered any more.
    """

    policy: str | None = None
    key: tuple[str, ...] | None = None
    retain: bool = False
    max_age: float | None = None


def delivery(cls: Any) -> Delivery:
    """The delivery of a `Codec` class; `TypeError` for any other object, and for `Codec` itself."""
    spec = record_spec(cls)
    if spec is None:
        raise TypeError("Codec itself is no message: name a subclass")
    found = spec.delivery
    assert isinstance(found, Delivery)
    return found


def declared(
    name: str,
    parent: Delivery | None,
    fields: tuple[str, ...],
    *,
    policy: Any,
    key: Any,
    retain: Any,
    max_age: Any = None,
) -> Delivery:
    """The delivery that class `name` declares with these keywords. None inherits a keyword from `parent`.

    Any other policy replaces an inherited ``latest`` together with its key and retention.

    Raises
    ------
    TypeError
        A keyword has an invalid value, or is valid with another policy only.
    """
    before = Delivery() if parent is None else parent
    if policy is not None and policy not in POLICIES:
        raise TypeError(f"{name}: policy is one of {_NAMES}, got {policy!r}")
    names = None if key is None else _names(name, fields, key)
    if retain is not None and not isinstance(retain, bool):
        raise TypeError(f"{name}: retain is True or False, got {retain!r}")
    found = before.policy if policy is None else policy
    age = before.max_age if max_age is None else _age(name, max_age)
    if found == "latest":
        return Delivery(
            found, before.key if names is None else names, before.retain if retain is None else retain, age
        )
    for keyword, value in (("key", key), ("retain", retain or None)):
        if value is not None:
            has = "it has none" if found is None else f'its policy is "{found}"'
            raise TypeError(f'{name}: {keyword}={value!r} is valid with policy="latest" only, and {has}')
    return Delivery(found, max_age=age)


def _age(name: str, age: Any) -> float:
    is_number = isinstance(age, (int, float)) and not isinstance(age, bool)
    if not is_number or not LEAST_AGE <= age <= MOST_AGE:
        raise TypeError(
            f"{name}: max_age is a number of seconds from {LEAST_AGE} to {MOST_AGE:g}, got {age!r}"
        )
    return float(age)


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
