from typing import Any, Literal, Self

from typing_extensions import disjoint_base

from deli_com.log.arena import Arena

@disjoint_base
class Log:
    def __new__(
        cls,
        framing: Literal["ws-server", "ws-client", "tcp"] = "ws-server",
        arena: Arena | None = None,
        *_: Any,
    ) -> Self: ...
    @property
    def arena(self) -> Arena: ...
    @property
    def end(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def reliable(self) -> int: ...
    @property
    def retained_keys(self) -> int: ...
    @property
    def slabs(self) -> int: ...
