from typing_extensions import disjoint_base

from deli_com.link.speaker import Speaker

@disjoint_base
class WsLink(Speaker):
    @property
    def round_trip(self) -> float: ...
    max_fragments: int
    def on_binary(self, data: bytes) -> None: ...
    def on_text(self, data: bytes) -> None: ...
