from picows import WSListener
from typing_extensions import disjoint_base

from deli_com._connection import Connection

@disjoint_base
class Peer(Connection):
    @property
    def round_trip(self) -> float: ...
    def listener(self) -> PeerListener: ...

@disjoint_base
class PeerListener(WSListener):
    def __init__(self, peer: Peer) -> None: ...
