"""``deli-com view``: the page that shows a server's values, on this machine."""

from __future__ import annotations

import argparse
import asyncio
import hmac
import secrets
import webbrowser
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from deli_com.cli.command import OK, CommandError, describe, fail
from deli_com.cli.urls import Place, add_url_options, is_url, server_of
from deli_com.errors import IoError
from deli_com.link.request import Request
from deli_com.net.address import parse_address
from deli_com.net.dial import check_way, open_socket
from deli_com.net.listener import open_listener
from deli_com.schema.control import Announcement, render_query
from deli_com.ws.connect import check_tls, open_websocket, target_of
from deli_com.ws.head import Refusal
from deli_com.ws.port import Port
from deli_com.ws.service import Service
from deli_com.ws.tunnel import MAX_FRAME_BYTES, Far, FarListener, FarTcp, FarWebSocket, Tunnel
from deli_com.ws.viewer import with_page

__all__ = ["fill", "run"]


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Shows the values of a server in a browser: the newest of each class and key, plots, pictures and
        tables. The page is served on this machine only. Its URL, which is printed, has a token for this run.
        The page gets its values through this program, which connects as any client does.""",
        """deli-com view ws://robot:8765
        deli-com view wss://robot.example/live --open
        deli-com view tcp://robot:8766 --send""",
    )
    parser.add_argument("url", metavar="URL", help="URL of the server")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--send", action="store_true", help="with a form that sends values to the server")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of the page (default: any)")
    add_url_options(parser)


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    if not is_url(options.url):
        fail(f"{options.url!r} is no URL of a server: ws://, wss://, tcp:// or tcps://")
    if not 0 <= options.port <= 65535:
        fail(f"--port is 0 to 65535, not {options.port}")
    place = server_of(options.url, options)
    place.ask()  # fails here, not on the page
    try:
        asyncio.run(_serve(place, options))
    except IoError as error:
        raise CommandError(str(error)) from error
    return OK


async def _serve(place: Place, options: argparse.Namespace) -> None:
    token = secrets.token_urlsafe(16)

    def authorize(request: Request) -> Refusal | None:
        given = parse_qs(request.query).get("token", [""])[0]
        if hmac.compare_digest(given.encode(), token.encode()):
            return None
        return Refusal(403, "the token is missing: use the URL that deli-com view has printed")

    async def open_far(tunnel: Tunnel, says: Announcement) -> Far:
        return await (_far_tcp if place.is_tcp else _far_websocket)(place, tunnel, says)

    title = options.url.split("?", 1)[0]
    port = Port(
        await open_listener(("127.0.0.1", options.port)),
        ssl=None,
        open_timeout=10.0,
        max_head_bytes=16 << 10,
        proxy_protocol=None,
        http=with_page(None, "send" if options.send else True, "/", title),
        http_authorize=authorize,
        hosts=(),
        has_page=True,
    )
    try:
        service = Service(
            make_listener=lambda request, transport: Tunnel(open_far, request.query),
            max_frame_size=MAX_FRAME_BYTES,
            authorize=authorize,
        )
        port.add("/", service)
        url = f"http://{port.address}/?token={token}"
        print(url, flush=True)
        if options.open:
            await asyncio.to_thread(webbrowser.open, url)
        await asyncio.Event().wait()
    finally:
        port.close()
        await port.wait_closed()


async def _far_websocket(place: Place, tunnel: Tunnel, says: Announcement) -> Far:
    asked: dict[str, Any] = dict(place.options)
    target = target_of(place.addr, path=None, sock=None, secure=False)
    check_tls(target, asked.get("ssl"))
    mark = "&" if "?" in target.resource else "?"
    target = replace(target, resource=f"{target.resource}{mark}{render_query(says)}")
    proxy = check_way(target.address, sock=None, proxy=True, server_hostname=None, secure=target.secure)
    transport = await open_websocket(
        target,
        make_listener=lambda response, _: FarListener(tunnel, response),
        max_frame_size=MAX_FRAME_BYTES,
        proxy=proxy,
        **asked,
    )
    return FarWebSocket(transport)


async def _far_tcp(place: Place, tunnel: Tunnel, says: Announcement) -> Far:
    address = parse_address(place.addr)
    context = place.options.get("ssl")
    async with asyncio.timeout(10.0):
        sock = await open_socket(asyncio.get_running_loop(), address, proxy=None, secure=context is not None)
        name = address.host if context is not None else None
        reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
    return FarTcp(tunnel, reader, writer, says)
