"""Schemas, and inputs with Python's results for them, made once for all languages."""

from __future__ import annotations

import pytest
import random_schemas
from toolchains import share

from deli_com import Schema


@pytest.fixture(scope="session")
def schemas() -> list[Schema]:
    return random_schemas.schemas(share(200, 25))


@pytest.fixture(scope="session")
def cases(schemas: list[Schema]) -> list[random_schemas.Case]:
    return list(random_schemas.cases(schemas, share(20, 5), share(24, 6)))
