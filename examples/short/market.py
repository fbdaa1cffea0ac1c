"""Prices of 50 symbols, of which the newest counts, beside trades that all must arrive."""

import asyncio
import random

from deli_com import Codec, WsServer, f64, u32


class Event(Codec, sealed=True):
    symbol: str


class Quote(Event, policy="latest", key="symbol", retain=True):
    bid: f64
    ask: f64


class Trade(Event):
    price: f64
    size: u32


async def main() -> None:
    prices = dict.fromkeys([f"SYM{number:02}" for number in range(50)], 100.0)
    async with WsServer[Event, None].bind("127.0.0.1:8765", page=True) as server:
        while True:
            for symbol in random.choices(list(prices), k=50):
                prices[symbol] += random.gauss(0, 0.02)
                server.send_nowait(Quote(symbol, prices[symbol] - 0.01, prices[symbol] + 0.01))
            server.send_nowait(Trade(symbol, prices[symbol], random.randint(1, 100)))
            await asyncio.sleep(0.005)


asyncio.run(main())
