from typing_extensions import disjoint_base

from deli_com.link.marked_link import MarkedLink

@disjoint_base
class WsLink(MarkedLink):
    max_fragments: int
    def on_binary(self, data: bytes) -> None: ...
    def on_text(self, data: bytes) -> None: ...
