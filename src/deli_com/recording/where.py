"""What the options ``record=`` take: where a recording goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, Union

__all__ = ["RecordEach", "RecordTo"]

# A path, or the arguments of `record` by name.
RecordTo: TypeAlias = Union[str, os.PathLike[str], Mapping[str, Any]]
# For each connection of a stream another one.
RecordEach: TypeAlias = Callable[[], RecordTo]
