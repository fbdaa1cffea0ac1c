"""The fields of one MCAP record, with checked lengths. The readers of the `mcap` package check none."""

from __future__ import annotations

import struct
from typing import Any, TypeVar

__all__ = ["Fields", "parsed"]

T = TypeVar("T")


class Fields:
    """Replaces the `mcap` package's ``ReadDataStream``: a field longer than the record raises ValueError.

    Parameters
    ----------
    data : bytes
        The content of the record.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.count = 0

    def read(self, length: int) -> bytes:
        if length > len(self._data) - self.count:
            raise ValueError(f"{length} bytes at byte {self.count} of a record of {len(self._data)}")
        self.count += length
        return self._data[self.count - length : self.count]

    def _number(self, form: str, size: int) -> int:
        found: int = struct.unpack(form, self.read(size))[0]
        return found

    def read1(self) -> int:
        return self._number("<B", 1)

    def read2(self) -> int:
        return self._number("<H", 2)

    def read4(self) -> int:
        return self._number("<I", 4)

    def read8(self) -> int:
        return self._number("<Q", 8)

    def read_prefixed_string(self) -> str:
        return str(self.read(self.read4()), "utf-8")


def parsed(kind: type[T], data: bytes) -> T:
    """A record of the `mcap` package, from its content.

    Raises
    ------
    ValueError
        A length is past the end of the record, or a text is not UTF-8.
    """
    reader: Any = kind
    made: T = reader.read(Fields(data))
    return made
