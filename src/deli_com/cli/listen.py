"""``deli-com listen``: prints the values that a server sends."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from deli_com.cli.command import OK, CommandError, describe, painted
from deli_com.cli.urls import Place, add_url_options, server_of
from deli_com.cli.values import json_line, plain, shown, type_name
from deli_com.coding.registry import codec
from deli_com.errors import ComError, ConnectionClosed
from deli_com.types.instance import RecordType, record_spec

__all__ = ["fill", "listened", "run", "wanted"]

ENDS = (1000, 1001)  # close codes of a server that has ended normally


def positive(text: str) -> int:
    """A positive integer, for options that count something."""
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Prints the values that a server sends, one per line. It asks the server for its schema, so no class
        is needed. With --json each line is an object with time, type and value, for other programs.""",
        """deli-com listen ws://robot:8765
        deli-com listen ws://robot:8765 --type Pose --key r2
        deli-com listen tcp://127.0.0.1:9000 --json --count 100 > values.jsonl
        deli-com listen wss://robot.example/live --json | jq .value.speed""",
    )
    parser.add_argument("url", metavar="URL", help="URL of a server")
    parser.add_argument("--json", action="store_true", help="one object per line, flushed")
    parser.add_argument("--count", type=positive, metavar="N", help="end after this many values")
    parser.add_argument("--type", metavar="T", help="only values of this class")
    parser.add_argument(
        "--key", dest="only", metavar="K", help="only values whose key is K; of several fields: K1,K2"
    )
    add_url_options(parser, "--cert-key")  # `--key` selects values here


def wanted(value: Any, type_: str | None, key: str | None) -> bool:
    """Whether a value has the selected class and key."""
    if type_ is not None and type_name(value) != type_:
        return False
    if key is None:
        return True
    spec: Any = record_spec(type(value)) if isinstance(type(value), RecordType) else None
    names = None if spec is None else spec.delivery.key
    return bool(names) and ",".join(str(plain(getattr(value, name))) for name in names or ()) == key


def check_type(type_: str | None, down: Any) -> None:
    """Raise `CommandError` if the server has no such class."""
    if type_ is None:
        return
    spec: Any = record_spec(down) if isinstance(down, RecordType) else None
    names = [*spec.variants] if spec is not None and spec.sealed else [getattr(down, "__name__", str(down))]
    names = [getattr(name, "__name__", str(name)) for name in names]
    if type_ not in names:
        raise CommandError(f"the server sends no {type_}, only {', '.join(names)}")


async def listened(place: Place, down: Any, up: Any) -> AsyncIterator[tuple[int, Any]]:
    """The values of a server, with the times of their arrival in nanoseconds since the epoch."""
    async with place.connect(down, up) as client:
        while True:
            for value in await client.recv_many(1024):
                yield time.time_ns(), value


def run(options: argparse.Namespace) -> int:
    """Print values until the server or the count ends it."""
    place = server_of(options.url, options)
    schemas = place.ask()
    down = schemas.down.load()
    up = None if schemas.up is None else schemas.up.load()
    check_type(options.type, down)
    codec(down)

    async def work() -> None:
        left = options.count
        stream = listened(place, down, up)
        try:
            async for at, value in stream:
                if not wanted(value, options.type, options.only):
                    continue
                if options.json:
                    print(json_line(at, value), flush=True)
                else:
                    moment, name, text = shown(at, value)
                    line = f"{painted(moment, 'dim', sys.stdout)} {painted(name, 'bold', sys.stdout)} {text}"
                    print(line, flush=True)
                if left is not None:
                    left -= 1
                    if not left:
                        return
        finally:
            await stream.aclose()  # type: ignore[attr-defined]

    try:
        asyncio.run(work())
    except ConnectionClosed as closed:
        if closed.code not in ENDS:
            raise CommandError(f"{options.url}: {closed}") from closed
    except ComError as error:
        raise CommandError(f"{options.url}: {error}") from error
    return OK
