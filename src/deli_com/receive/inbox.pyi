from asyncio import AbstractEventLoop
from typing import Any, Self

from typing_extensions import disjoint_base

from deli_com._fastcodec import TypeCodec

@disjoint_base
class Inbox:
    def __new__(
        cls,
        loop: AbstractEventLoop,
        codec: TypeCodec[Any] | None = None,
        *,
        max_bytes: int = ...,
        max_count: int = ...,
    ) -> Self: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def max_count(self) -> int: ...
    @property
    def held_bytes(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def superseded(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def undecodable(self) -> int: ...
    @property
    def plain_size(self) -> int: ...
    @property
    def wanted(self) -> bool: ...
