"""`ask_schemas`: the schemas of a TCP server, for a client without types."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from typing import Any

from deli_com.errors import ConnectionClosed, IoError
from deli_com.net.address import AddressLike, parse_address
from deli_com.net.dial import check_way, open_socket
from deli_com.net.options import checked
from deli_com.schema import control
from deli_com.schema.control import MARKER, MAX_BYTES, Hello
from deli_com.schema.question import Question, Schemas

__all__ = ["ask_schemas"]

PIECE_BYTES = 1 << 16  # bytes of a skipped value that are read at once


async def ask_schemas(
    addr: AddressLike,
    *,
    proxy: str | None = None,
    ssl: Any = None,
    server_hostname: str | None = None,
    open_timeout: float | None = 10.0,
) -> Schemas:
    """Connect, ask, and disconnect. The parameters are those of `Client.connect`.

    Raises
    ------
    IoError
        As `Client.connect`.
    ConnectionClosed
        The server does not exchange schemas, or its answer is malformed.
    """
    asked = checked(
        client_ssl=ssl, explicit_proxy=proxy, server_hostname=server_hostname, open_timeout=open_timeout
    )
    address = parse_address(addr)
    way = check_way(
        address, sock=None, proxy=asked["proxy"], server_hostname=server_hostname, secure=bool(ssl)
    )
    context = ssl_module.create_default_context() if ssl is True else ssl or None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(asked["open_timeout"]):
            made = await open_socket(loop, address, proxy=way, secure=context is not None)
            name = (server_hostname or address.host) if context is not None else None
            reader, writer = await asyncio.open_connection(sock=made, ssl=context, server_hostname=name)
            try:
                return await _ask(reader, writer)
            finally:
                writer.transport.abort()
    except asyncio.IncompleteReadError:
        reason = "the server closed the connection without sending schemas: it is older, or another program"
        raise ConnectionClosed(None, reason) from None
    except ValueError as error:
        raise ConnectionClosed(None, str(error)) from None
    except IoError:
        raise
    except OSError as error:
        raise IoError.of(error, f"ask {address} for its schemas") from error


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Schemas:
    question = Question()
    hello = control.render(Hello(question.hello))
    writer.write(MARKER.to_bytes(4, "little") + len(hello).to_bytes(4, "little") + hello)
    while not question.is_settled:
        size = int.from_bytes(await reader.readexactly(4), "little")
        if size != MARKER:  # a value
            while size:
                piece = min(size, PIECE_BYTES)
                await reader.readexactly(piece)
                size -= piece
            continue
        size = int.from_bytes(await reader.readexactly(4), "little")
        if size > MAX_BYTES:
            raise ValueError(f"a control text of {size} bytes")
        question.handle(await reader.readexactly(size))
    return question.schemas
