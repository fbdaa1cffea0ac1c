"""What the nodes of the cluster send."""

from __future__ import annotations

from deli_com import Codec, f64, u32


class Message(Codec, sealed=True):
    pass


class Quote(Message, policy="latest", key="symbol", retain=True):
    """The price of a symbol; who comes late gets the newest."""

    symbol: str
    price: f64


class Trade(Message):
    """Everyone gets each of them."""

    node: str
    number: u32
