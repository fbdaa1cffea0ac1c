"""The typed examples run as they read, and `__all__` of the package is what the stubs name."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def test_examples_run() -> None:
    """What the checkers accept also works."""
    path = Path(__file__).with_name("codec_api.py")
    spec = importlib.util.spec_from_file_location("codec_api", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["codec_api"] = module
    spec.loader.exec_module(module)
    module.run()
