"""What the market sends: prices, of which the newest counts, and trades, of which each one does."""

from deli_com import Codec, f64, u32


class Event(Codec, sealed=True):
    symbol: str


# A client that lags gets the newest quote of each symbol. One that comes later gets them first.
class Quote(Event, policy="latest", key="symbol", retain=True):
    bid: f64
    ask: f64


# Trades are reliable: a client gets all from the moment it connects, or it is closed.
class Trade(Event):
    number: u32  # of the trade, from 0
    price: f64
    size: u32
