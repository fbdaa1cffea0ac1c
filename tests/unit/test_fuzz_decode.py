"""The fuzz target works: it passes with correct code, and finds planted faults."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[1] / "fuzz" / "fuzz_decode.py"


@pytest.fixture(scope="module")
def fuzz() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_decode", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_decode"] = module
    spec.loader.exec_module(module)
    return module


def test_seeds_pass(fuzz: Any) -> None:
    """Every vector under every type."""
    for data in fuzz.seeds():
        fuzz.check(data)


def test_some_mutations_pass(fuzz: Any) -> None:
    assert fuzz.mutate_for(1.0) > 1000


def test_a_wrong_decoder_is_found(fuzz: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that swallows one error disagrees, and the target says so."""
    decode = fuzz.reference.decode

    def careless(tp: Any, data: bytes, pos: int = 0) -> Any:
        if tp == ("bool",) and len(data) > pos and data[pos] == 2:
            return True, pos + 1
        return decode(tp, data, pos)

    monkeypatch.setattr(fuzz.reference, "decode", careless)
    random.seed(1)
    with pytest.raises(AssertionError, match="reference"):
        fuzz.mutate_for(20.0)
