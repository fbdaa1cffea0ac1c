from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class Watchers:
    def __new__(cls, loop: AbstractEventLoop) -> Self: ...
    async def until(self, predicate: Callable[[], bool]) -> None: ...
    async def until_at_most(self, predicate: Callable[[], bool], seconds: float) -> None: ...
