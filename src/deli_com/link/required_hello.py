"""The hello that a TCP client must send first, where schemas are required."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable

__all__ = ["NO_SCHEMA", "RequiredHello"]

HELLO_BYTES = 512
HELLO_S = 10.0
HEADER = b"\xff\xff\xff\xff"  # of a control text; its length follows in four bytes
NO_SCHEMA = "it announces no schema, and schemas are required here"


class RequiredHello:
    """What has arrived of the hello, and the time that it may take.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    on_late : callable
        Called with the cause once the time is over, unless `end` was called.
    """

    def __init__(self, loop: AbstractEventLoop, on_late: Callable[[str], object]) -> None:
        self._bytes = bytearray()
        self._deadline = loop.call_later(HELLO_S, on_late, f"no hello within {HELLO_S:g} s")

    def add(self, data: bytes) -> bytes | None:
        """Return all bytes so far once the hello is complete.

        Raises
        ------
        ValueError
            No hello begins so. The text is the cause for closing the connection.
        """
        self._bytes += data
        if len(self._bytes) >= 4 and not self._bytes.startswith(HEADER):
            raise ValueError(NO_SCHEMA)
        if len(self._bytes) < 8:
            return None
        length = int.from_bytes(self._bytes[4:8], "little")
        if length > HELLO_BYTES:
            raise ValueError(f"a hello of {length} bytes")
        return bytes(self._bytes) if len(self._bytes) >= 8 + length else None

    def end(self) -> None:
        """Set no deadline any more."""
        self._deadline.cancel()
