"""A short, deterministic run of the fuzzers. Run fuzz_frames.py by hand for longer ones."""

from __future__ import annotations

import pytest
from fuzz.fuzz_frames import fuzz
from fuzz.fuzz_schema import fuzz as fuzz_schema


@pytest.mark.limit(60)
async def test_generated_frames_and_heads_do_what_the_model_says() -> None:
    assert await fuzz(seed=1, cases=600) == 600


def test_mutated_schema_texts_are_schemas_or_value_errors() -> None:
    """`fuzz_schema.py` by hand, and `make fuzz`, go on for as long as one likes."""
    found = fuzz_schema(seed=1, cases=1500)
    assert sum(found.values()) == 1500
    assert min(found["no schema"], found["loaded"]) > 100
