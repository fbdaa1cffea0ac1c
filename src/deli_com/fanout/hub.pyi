from asyncio import AbstractEventLoop

from typing_extensions import disjoint_base

from deli_com.fanout.follower import Owner
from deli_com.log.arena import Arena
from deli_com.log.log import Log

@disjoint_base
class Hub(Owner):
    def __init__(
        self,
        loop: AbstractEventLoop,
        log: Log,
        *,
        max_backlog: int = ...,
        max_queued: int = ...,
        progress_timeout: float = 10.0,
    ) -> None: ...
    @property
    def log(self) -> Log: ...
    @property
    def loop(self) -> AbstractEventLoop: ...
    @property
    def arena(self) -> Arena: ...
    slice_ns: int
