from picows import WSListener
from typing_extensions import disjoint_base

from deli_com.link.speaker import Speaker

@disjoint_base
class Peer(Speaker):
    @property
    def round_trip(self) -> float: ...
    max_fragments: int
    def on_binary(self, data: bytes) -> None: ...
    def on_text(self, data: bytes) -> None: ...
    def listener(self) -> PeerListener: ...

@disjoint_base
class PeerListener(WSListener):
    def __init__(self, peer: Peer) -> None: ...
