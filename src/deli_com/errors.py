"""Every exception of the library, in one tree under `ComError`.

::

    ComError
    ├── IoError (also OSError) ── out of time: also TimeoutError; refused: also ConnectionRefusedError
    ├── ConnectionClosed (also ConnectionError)
    ├── MessageTooLarge (also ValueError)
    ├── WebSocketError
    ├── BacklogFull (also BufferError)
    ├── EncodeError (also ValueError)
    └── DecodeError (also ValueError)
        └── UnexpectedEof, InvalidUtf8, InvalidBool, InvalidVariant

Texts begin as those of the Rust crates do. All of them survive ``pickle`` and ``copy``.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BacklogFull",
    "ComError",
    "ConnectionClosed",
    "DecodeError",
    "EncodeError",
    "InvalidBool",
    "InvalidUtf8",
    "InvalidVariant",
    "IoError",
    "MessageTooLarge",
    "UnexpectedEof",
    "WebSocketError",
]
