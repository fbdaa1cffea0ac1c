"""A short run of the fuzzer that is the same every time; run fuzz_frames.py by hand for longer ones."""

from __future__ import annotations

import pytest
from fuzz.fuzz_frames import fuzz


@pytest.mark.limit(60)
async def test_generated_frames_and_heads_do_what_the_model_says() -> None:
    assert await fuzz(seed=1, cases=600) == 600
