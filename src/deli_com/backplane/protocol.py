"""`Backplane`: the interface to the network between servers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from deli_com.errors import ComError
from deli_com.net.options import wrong

__all__ = ["Backplane", "Orphans", "Unreachable", "checked_orphans", "checked_room"]

Orphans: TypeAlias = Literal["keep", "forget"]

ROOM = re.compile(r"[A-Za-z0-9_-]+")  # a dot or a star has a meaning in a subject


class Unreachable(ComError):
    """`Backplane.publish` raises this if it cannot send now, and has handed over no part of the message."""


@runtime_checkable
class Backplane(Protocol):
    """The network between servers: a message reaches each subscriber of its subject at most once.

    Servers detect lost messages by sequence numbers. So an implementation may lose messages. It must not
    change them, nor the order of what one node publishes to one subject.

    Attributes
    ----------
    room : str
        Servers with the same room are joined. Letters, digits, ``_`` and ``-``.
    orphans : "keep" or "forget"
        What happens to the retained values of a node that is gone.
    max_payload : int
        Bytes that a message may have, 1,024 or more. It is read after each connect.
    is_connected : bool
        Whether messages can be published now.
    """

    @property
    def room(self) -> str: ...
    @property
    def orphans(self) -> Orphans: ...
    @property
    def max_payload(self) -> int: ...
    @property
    def is_connected(self) -> bool: ...

    async def open(
        self,
        subjects: Sequence[str],
        receive: Callable[[str, bytes], None],
        changed: Callable[[], None],
    ) -> None:
        """Connect and subscribe, in the server's event loop. Later the backplane reconnects by itself.

        Parameters
        ----------
        subjects : sequence of str
            Words with dots between them; ``*`` stands for one word.
        receive : callable
            ``(subject, message)``, for every message; it returns at once. Own messages may be left out.
        changed : callable
            ``()`` after every change of `is_connected`.

        Raises
        ------
        Exception
            The server logs it, and tries again later.
        """
        ...

    async def publish(self, subject: str, message: bytes) -> None:
        """Hand a message over. While this waits, because the network is slow, messages of the server wait by
        their policies.

        Raises
        ------
        Unreachable
            No part of the message was handed over. If it has values, it is published again once the
            backplane is connected.
        Exception
            The message is lost; the other nodes count its values.
        """
        ...

    async def close(self) -> None:
        """Hand over what was published, and disconnect. Called once, also if `open` has failed."""
        ...


def checked_room(room: Any) -> str:
    """Check the name of a room; TypeError or ValueError if it is invalid."""
    if not isinstance(room, str):
        raise TypeError(wrong("room", room, "a str"))
    if not ROOM.fullmatch(room):
        raise ValueError(wrong("room", room, "letters, digits, _ and -"))
    return room


def checked_orphans(orphans: Any) -> Orphans:
    """Check the option `orphans`; ValueError if it is invalid."""
    if orphans == "keep":
        return "keep"
    if orphans == "forget":
        return "forget"
    raise ValueError(wrong("orphans", orphans, "'keep' or 'forget'"))
