from asyncio import AbstractEventLoop
from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class ReadBuffer:
    def __new__(cls, loop: AbstractEventLoop) -> Self: ...
