"""Looks up the names of an annotation: in the class, its enclosing functions, its module.

A postponed annotation (``from __future__ import annotations``, or a quoted name) is a string. It must be
evaluated as if it stood in its place in the source. The scope keeps the frames of the enclosing functions
only until the annotations are resolved. So names defined later in the same function are found, too.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

__all__ = ["Scope"]


class Scope(Mapping[str, Any]):
    """The names visible to the body of one class, innermost first."""

    __slots__ = ("_frames", "_globals", "_own")

    def __init__(self, own: Mapping[str, Any], frame: FrameType | None, module: str) -> None:
        self._own = dict(own)
        self._frames: list[FrameType] = []
        loaded = sys.modules.get(module)
        self._globals: Mapping[str, Any] = {} if loaded is None else vars(loaded)
        if frame is not None and frame.f_globals.get("__name__") == module:
            self._globals = frame.f_globals
            self._frames = list(_enclosing(frame))

    def add(self, name: str, value: object) -> None:
        """Make `name` visible. It hides the same name of enclosing functions."""
        self._own[name] = value

    def forget(self) -> None:
        """Release the frames, after everything is resolved."""
        self._frames = []

    def __getitem__(self, name: str) -> Any:
        if name in self._own:
            return self._own[name]
        for frame in self._frames:
            names = frame.f_locals
            if name in names:
                return names[name]
        if name in self._globals:
            return self._globals[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def evaluate(self, text: str) -> Any:
        """Evaluate an annotation given as a string; `NameError` if a name is not defined (yet)."""
        # The globals of eval hold only the builtins, so that each name is looked up by __getitem__ first.
        return eval(text, {"__builtins__": builtins}, self)


def _enclosing(frame: FrameType) -> Iterator[FrameType]:
    # The frames of the functions (and class bodies) around a class statement. A caller is an enclosing
    # function only if its code has the inner code as a constant.
    inner: FrameType | None = frame
    while inner is not None and inner.f_code.co_name != "<module>":
        yield inner
        outer = inner.f_back
        while outer is not None and inner.f_code not in outer.f_code.co_consts:
            outer = outer.f_back
        inner = outer
