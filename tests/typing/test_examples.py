"""The typed examples run as written: what mypy and pyright accept also works."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_codec_api() -> None:
    load("codec_api").run()


@pytest.mark.limit(20)
async def test_public_api() -> None:
    await load("public_api").main()
