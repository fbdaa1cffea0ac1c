from typing_extensions import disjoint_base

from deli_com.link.speaker import Speaker

@disjoint_base
class MarkedLink(Speaker):
    @property
    def round_trip(self) -> float: ...
