from typing_extensions import disjoint_base

@disjoint_base
class SlotTable:
    @property
    def count(self) -> int: ...
    @property
    def idle(self) -> int: ...
