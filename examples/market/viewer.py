"""Shows the market of market.py: the newest quotes, ten times a second, and the sum of all trades."""

import argparse
import asyncio

from events import Event, Quote, Trade

from deli_com import ConnectionClosed, WsClient


async def main(addr: str) -> None:
    quotes: dict[str, Quote] = {}
    trades: list[Trade] = []
    missing = 0
    async with WsClient[Event, None].connect(addr) as client:
        try:
            while True:
                # All that has come since the last picture; what was replaced meanwhile is not drawn.
                for event in await client.recv_many(100_000):
                    match event:
                        case Quote():
                            quotes[event.symbol] = event
                        case Trade():
                            missing += bool(trades) and event.number != trades[-1].number + 1
                            trades.append(event)
                print(f"\r{len(quotes)} symbols, {len(trades)} trades", end="", flush=True)
                await asyncio.sleep(0.1)
        except ConnectionClosed as error:
            print("\r", error, sep="")
    for symbol, quote in quotes.items():
        print(f"{symbol} {quote.bid:8.2f} {quote.ask:8.2f}")
    turnover = sum(trade.price * trade.size for trade in trades)
    print(f"{len(trades)} trades, {missing} missing, turnover {turnover:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Watch the market of market.py.")
    parser.add_argument("addr", nargs="?", default="127.0.0.1:8767")
    asyncio.run(main(parser.parse_args().addr))
