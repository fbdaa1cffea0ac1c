"""Source text of other languages from a schema: what ``deli-com gen`` prints."""

from __future__ import annotations

from deli_com.gen.cpp import cpp
from deli_com.gen.dart import dart
from deli_com.gen.python import python
from deli_com.gen.rust import rust
from deli_com.gen.ts import typescript

__all__ = ["cpp", "dart", "python", "rust", "typescript"]
