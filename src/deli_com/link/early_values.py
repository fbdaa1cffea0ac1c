"""Values that reach a TCP client before the server's hello. How they are decoded is not known yet."""

from __future__ import annotations

__all__ = ["NO_HELLO", "EarlyValues"]

MOST_BYTES = 16 << 20
VALUE_BYTES = 48  # in addition to a value's own
NO_HELLO = (
    "the server does not answer the announcement of schemas: it is older than they are, or another program; "
    "connect with schema=None"
)


class EarlyValues:
    """The values that wait, as bytes, in order."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self._bytes = 0

    def add(self, data: bytes) -> str | None:
        """Keep one value more, or return the cause for closing the connection: too many bytes wait."""
        if self.values and self._bytes + len(data) > MOST_BYTES:
            return f"over {MOST_BYTES} bytes of values came first: {NO_HELLO}"
        self.values.append(data)
        self._bytes += len(data) + VALUE_BYTES
        return None
