"""Messages of a backplane as bytes: heads, requests, answers and schema texts. Names of the subjects.

::

    "dlb1", 16 bytes node, u64 sequence, 16 bytes schema hash      head of every message but a text
    u8 kind, u8 flags, u16 n, name, u32 length, payload            a record; a message has any number

Messages with values (batches) are made by outbox.pyx and read by arrivals.pyx.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = [
    "HEAD_BYTES",
    "Ask",
    "Head",
    "Item",
    "ask",
    "heartbeat",
    "leave",
    "parse_head",
    "parse_text",
    "records",
    "state",
    "subject",
    "text",
]

HEAD: Final = struct.Struct("<4s16sQ16s")
HEAD_BYTES: Final = HEAD.size
RECORD: Final = struct.Struct("<BBH")
LENGTH: Final = struct.Struct("<I")

STATE, LEAVE = 3, 4  # kinds; those of batches: 0 to all, 1 to a group, 2 forget
MORE, CONTINUES, IN_GROUP, ORPHAN, END = 1, 2, 4, 8, 16  # flags
TEXT: Final = b"dlt1"


class Head(NamedTuple):
    """The sender and number of a message.

    Attributes
    ----------
    node : bytes
        16 bytes.
    sequence : int
        Number of the first value in the message; without values, of the next value.
    schema : str
        Hash of the schema of what the node sends.
    """

    node: bytes
    sequence: int
    schema: str


class Item(NamedTuple):
    """One record of a message."""

    kind: int
    flags: int
    name: bytes
    payload: bytes


class Ask(NamedTuple):
    """A request for retained values, to one node or to all."""

    head: Head
    target: bytes


def subject(room: str, word: str, suffix: str) -> str:
    """``deli.<room>.<word>.<suffix>``: the word is a schema's hash, a node in hex, or ``*``."""
    return f"deli.{room}.{word}.{suffix}"


def head(who: Head) -> bytes:
    return HEAD.pack(b"dlb1", who.node, who.sequence, bytes.fromhex(who.schema))


def parse_head(message: bytes) -> Head:
    """Read the head of a message; ValueError if it has none."""
    if len(message) < HEAD_BYTES or message[:4] != b"dlb1":
        raise ValueError(f"a message of a backplane does not begin with {bytes(message[:8])!r}")
    _, node, sequence, schema = HEAD.unpack_from(message)
    return Head(node, sequence, schema.hex())


def heartbeat(who: Head) -> bytes:
    """An empty batch."""
    return head(who)


def leave(who: Head) -> bytes:
    """The last batch of a node."""
    return head(who) + _record(LEAVE, 0, b"", b"")


def ask(who: Head, target: bytes = b"") -> bytes:
    """Make a request for the retained values of the node `target`, or of all nodes."""
    return head(who) + target


def parse_ask(message: bytes) -> Ask:
    return Ask(parse_head(message), message[HEAD_BYTES:])


def text(schema: str) -> bytes:
    """The answer to a request for a schema."""
    return TEXT + schema.encode()


def parse_text(message: bytes) -> str | None:
    """Return the schema text of such an answer; None for another message."""
    return message[4:].decode() if message[:4] == TEXT else None


def state(who: Head, values: Iterable[tuple[bytes, bytes | None, bool]], most: int) -> list[bytes]:
    """Return what a node retains, as messages of limited size.

    Parameters
    ----------
    who : Head
    values : iterable of (bytes, bytes or None, bool)
        Payload; name of the group, None for all; whether its node is gone.
    most : int
    """
    made: list[bytes] = []
    start = head(who)
    current = bytearray(start)
    count = 0

    def put(record: bytes) -> None:
        nonlocal current
        if len(current) + len(record) > most:
            made.append(bytes(current))
            current = bytearray(start)
        current += record

    for payload, name, is_orphan in values:
        flags = (IN_GROUP if name is not None else 0) | (ORPHAN if is_orphan else 0)
        room = most - HEAD_BYTES - RECORD.size - LENGTH.size - len(name or b"")
        if len(payload) <= room:
            put(_record(STATE, flags, name or b"", payload))
        else:
            step = max(1, room - LENGTH.size)
            for at in range(0, len(payload), step):
                part = payload[at : at + step]
                more = MORE if at + step < len(payload) else 0
                if at:
                    part = LENGTH.pack(at) + part
                put(_record(STATE, flags | more | (CONTINUES if at else 0), name or b"", part))
        count += 1
    put(_record(STATE, END, b"", LENGTH.pack(count)))
    return [*made, bytes(current)]


def records(message: bytes) -> Iterator[Item]:
    """The records of a message.

    Raises
    ------
    ValueError
        A length is wrong.
    """
    at = HEAD_BYTES
    while at < len(message):
        try:
            kind, flags, named = RECORD.unpack_from(message, at)
            name = message[at + RECORD.size : at + RECORD.size + named]
            at += RECORD.size + named
            (length,) = LENGTH.unpack_from(message, at)
        except struct.error:
            raise ValueError(f"a record is cut at byte {at} of {len(message)}") from None
        at += LENGTH.size
        if length > len(message) - at:
            raise ValueError(f"a payload of {length} bytes is cut at byte {at} of {len(message)}")
        yield Item(kind, flags, name, message[at : at + length])
        at += length


def _record(kind: int, flags: int, name: bytes, payload: bytes) -> bytes:
    return RECORD.pack(kind, flags, len(name)) + name + LENGTH.pack(len(payload)) + payload
