"""A stream beside the routes of FastAPI, at /quotes of the same port: ``uvicorn beside:app``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from deli_com import Codec, WsServer, f64


class Quote(Codec, policy="latest", key="symbol", retain=True):
    symbol: str
    price: f64


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with WsServer[Quote, None].bind(None) as app.state.quotes:
        app.mount("/quotes", app.state.quotes.asgi())
        yield


app = FastAPI(lifespan=lifespan)


@app.put("/price/{symbol}")
def price(symbol: str, value: float) -> None:
    app.state.quotes.send_nowait(Quote(symbol, value))
