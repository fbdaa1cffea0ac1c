from typing import Self

from picows import WSListener
from typing_extensions import disjoint_base

from deli_com.link.ws_link import WsLink

@disjoint_base
class WsLinkListener(WSListener):
    def __new__(cls, peer: WsLink) -> Self: ...
