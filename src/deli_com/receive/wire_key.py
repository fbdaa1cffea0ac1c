"""`wire_key`: a key as users write it, as the bytes by which an inbox tells keys apart."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from deli_com._fastcodec import TypeCodec
from deli_com.errors import EncodeError
from deli_com.receive.inbox import Inbox
from deli_com.receive.policy_inbox import PolicyInbox
from deli_com.types.graph import check
from deli_com.types.instance import RecordType, record_spec

__all__ = ["wire_key"]


def wire_key(inbox: Inbox, received: Any, key: Any, cls: type | None) -> tuple[int, bytes]:
    """Find the class that has such a key, and encode it.

    Parameters
    ----------
    inbox : Inbox
        Where values of the class wait.
    received : type
        What is received: a class, or the base of variants.
    key : object
        Value of the key field, a tuple of several, None without a key.
    cls : type or None
        The class; None: the only one that can have such a key.

    Returns
    -------
    int
        Its place among the variants; 0 where there are none.
    bytes
        The key's fields, one after the other, in the order of the fields.

    Raises
    ------
    TypeError
        There is no such class, or more than one.
    """
    spec = record_spec(received) if isinstance(received, RecordType) else None
    classes: list[Any] = [] if spec is None else list(spec.variants.values()) if spec.sealed else [received]
    latest = [(lane, one) for lane, one in enumerate(classes) if record_spec(one).delivery.policy == "latest"]
    if not latest or (cls is not None and cls not in [one for _, one in latest]):
        what = "no type" if cls is None else f"{cls!r} is not, or no type"
        raise TypeError(f"latest: {what} of what is received has policy 'latest'")
    if not isinstance(inbox, PolicyInbox):
        raise TypeError("latest: the client was connected with conflate=False, so it does not look at keys")
    found: list[tuple[int, bytes]] = []
    failure: Exception | None = None
    for lane, one in latest:
        if cls is not None and one is not cls:
            continue
        try:
            found.append((lane, _encoded(one, key)))
        except (EncodeError, TypeError) as error:
            failure = error
    if not found:
        raise TypeError(f"latest: {key!r} is no key of what is received: {failure}") from failure
    if len(found) > 1:
        names = ", ".join(classes[lane].__name__ for lane, _ in found)
        raise TypeError(f"latest: several classes may have the key {key!r} ({names}): name one by type=")
    return found[0]


def _encoded(cls: Any, key: Any) -> bytes:
    names: tuple[str, ...] = record_spec(cls).delivery.key or ()
    if len(names) == 1:
        values = {names[0]: key}
    elif not names and key is None:
        return b""
    elif isinstance(key, tuple) and len(key) == len(names):
        values = dict(zip(names, key, strict=True))
    else:
        wanted = f"a tuple ({', '.join(names)})" if names else "None"
        raise TypeError(f"the key of {cls.__name__} is {wanted}, got {key!r}")
    return b"".join(codec.to_bytes(values[name]) for name, codec in _codecs(cls))


def _codecs(cls: Any) -> tuple[tuple[str, TypeCodec[Any]], ...]:
    found = _made.get(cls)
    if found is None:
        found = _made[cls] = _make_codecs(cls)
    return found


_made: WeakKeyDictionary[Any, tuple[tuple[str, TypeCodec[Any]], ...]] = WeakKeyDictionary()


def _make_codecs(cls: Any) -> tuple[tuple[str, TypeCodec[Any]], ...]:
    spec = record_spec(cls)
    names = spec.delivery.key or ()
    return tuple(
        (name, TypeCodec(field.annotation, node, check(node), name))
        for field, (name, node) in zip(spec.fields, spec.nodes(), strict=True)
        if name in names
    )
