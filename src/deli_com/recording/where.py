"""Types of the options ``record=``: the file of a recording, and its options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypedDict, Union

__all__ = ["RecordEach", "RecordOptions", "RecordTo"]


class RecordOptions(TypedDict, total=False):
    """Options of the methods ``record`` that pass them on; `Recordable.record` has their defaults."""

    compression: str | None
    on_full: str
    split_bytes: int | None
    split_seconds: float | None
    keep: int | None


# A path, or the arguments of `record` by name.
RecordTo: TypeAlias = Union[str, os.PathLike[str], Mapping[str, Any]]
# Returns another one for each connection of a stream.
RecordEach: TypeAlias = Callable[[], RecordTo]
