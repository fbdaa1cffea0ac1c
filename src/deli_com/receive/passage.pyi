from typing_extensions import disjoint_base

@disjoint_base
class Passage:
    @property
    def from_anyone(self) -> bool: ...
