"""Equality of values that may hold arrays. They are compared by items, and the result is always a bool."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["same_items"]


def same_items(a: Any, b: Any) -> bool:
    """Whether two field values are equal. Arrays of any kind are compared by items.

    The ``ndarray`` that was sent equals the ``array.array`` that was received. As in all sequences here, an
    item equals itself, even if it is a NaN.
    """
    if a is b:
        return True
    if _is_sequence(a) and _is_sequence(b):
        return len(a) == len(b) and all(map(same_items, a, b))
    left, right = _view(a), _view(b)
    if left is not None and right is not None:
        return _same_arrays(a, b, left, right)
    if left is not None or right is not None:
        return _same_mixed(a, b)
    return bool(a == b)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _view(value: Any) -> memoryview | None:
    if isinstance(value, str):
        return None
    try:
        view = memoryview(value)
    except (TypeError, ValueError, BufferError):
        return None
    return view if view.ndim else None


def _same_arrays(a: Any, b: Any, left: memoryview, right: memoryview) -> bool:
    numpy = sys.modules.get("numpy")
    if numpy is not None and (isinstance(a, numpy.ndarray) or isinstance(b, numpy.ndarray)):
        # Works also for structured items, which memoryview cannot compare.
        x, y = numpy.asarray(a), numpy.asarray(b)
        return x.shape == y.shape and bool((x == y).all())
    return left == right


def _same_mixed(a: Any, b: Any) -> bool:
    # Compares a buffer with another object, which may be a list or tuple of equal items.
    sequence, other = (a, b) if _is_sequence(a) else (b, a)
    if _is_sequence(sequence) and hasattr(other, "tolist"):
        return same_items(sequence, other.tolist())
    numpy = sys.modules.get("numpy")
    if numpy is not None and (isinstance(a, numpy.ndarray) or isinstance(b, numpy.ndarray)):
        return False
    return bool(a == b)
