"""A market: 50 symbols that walk at random, up to 20,000 quotes and 2,000 trades a second.

Run ``python examples/market/market.py`` and, beside it, as often as you like,
``python examples/market/viewer.py``.
"""

import argparse
import asyncio
import random

from events import Event, Quote, Trade

from deli_com import WsServer

SYMBOLS = [f"SYM{number:02}" for number in range(50)]
TURN_S = 0.005
QUOTES, TRADES = 100, 10  # a turn


async def main(port: int, seconds: float) -> None:
    quotes = {symbol: Quote(symbol, 99.99, 100.01) for symbol in SYMBOLS}
    trades = 0
    async with WsServer[Event, None].bind(("127.0.0.1", port)) as server:
        print("market at", server.local_addr(), flush=True)
        for quote in quotes.values():
            server.send_nowait(quote)
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            # What is sent in one turn of the loop leaves in one system call a client.
            for symbol in random.choices(SYMBOLS, k=QUOTES):
                middle = max(1.0, (quotes[symbol].bid + quotes[symbol].ask) / 2 + random.gauss(0, 0.02))
                quotes[symbol] = Quote(symbol, round(middle - 0.01, 2), round(middle + 0.01, 2))
                server.send_nowait(quotes[symbol])
            for symbol in random.choices(SYMBOLS, k=TRADES):
                server.send_nowait(Trade(symbol, trades, quotes[symbol].ask, random.randint(1, 100)))
                trades += 1
            await asyncio.sleep(TURN_S)
        stats = server.stats()
    for symbol, quote in quotes.items():
        print(f"{symbol} {quote.bid:8.2f} {quote.ask:8.2f}")
    print(f"{stats.messages_out - trades} quotes, {stats.superseded} of them superseded; {trades} trades")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A market of 50 symbols.")
    parser.add_argument("--port", type=int, default=8767)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    asyncio.run(main(options.port, options.seconds))
