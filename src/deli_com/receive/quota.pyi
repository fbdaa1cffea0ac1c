from typing import Any, Self

from typing_extensions import disjoint_base

from deli_com.receive.inbox import Inbox

@disjoint_base
class InputQuota:
    def __new__(cls, limit: int, inbox: Inbox, owner: Any, log: Any) -> Self: ...
    @property
    def limit(self) -> int: ...
    @property
    def buffered(self) -> int: ...
