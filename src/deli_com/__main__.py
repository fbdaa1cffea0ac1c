"""``python -m deli_com``: the same as ``deli-com``."""

from __future__ import annotations

import sys

from deli_com.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
