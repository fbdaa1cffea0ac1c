from typing_extensions import disjoint_base

from deli_com.log.arena import Arena
from deli_com.log.log import Log

@disjoint_base
class Owner: ...

@disjoint_base
class Audience(Log):
    def __init__(self, framing: str, arena: Arena, owner: Owner, name: object = None) -> None: ...
    @property
    def name(self) -> object: ...
    @property
    def members(self) -> set[Follower]: ...

@disjoint_base
class Follower:
    @property
    def skipped(self) -> int: ...
    @property
    def superseded(self) -> int: ...
