"""What four bytes of length can say."""

from __future__ import annotations

__all__ = ["check_message_size"]

LENGTH_MAX = (1 << 32) - 1


def check_message_size(size: int) -> None:
    """Raise `ValueError` for a ``max_message_size`` beyond that."""
    if not 0 <= size <= LENGTH_MAX:
        raise ValueError(f"max_message_size is {size}, expected 0 to {LENGTH_MAX}: a length has four bytes")
