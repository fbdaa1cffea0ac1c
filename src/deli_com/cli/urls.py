"""Options for connecting to a server by URL: ``--header``, ``--ca``, ``--cert``, ``--key``, ``DELI_TOKEN``.

::

    add_url_options(parser)             in a command's `fill`
    place = server_of(url, options)     in its `run`
    place.ask()                         its schemas
    place.connect(Telemetry, None)      an `Opening` of a WsClient or Client, by the scheme of the URL
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl as ssl_module
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from deli_com import Client, WsClient
from deli_com.cli.command import CommandError, fail, filled
from deli_com.errors import ComError
from deli_com.opening import Opening
from deli_com.schema.question import Schemas
from deli_com.tcp.ask import ask_schemas as ask_tcp
from deli_com.ws.ask import ask_schemas as ask_websocket

__all__ = ["TOKEN", "Place", "add_url_options", "is_url", "server_of", "tls_of"]

SCHEMES = ("ws", "wss", "tcp", "tcps")
TOKEN = "DELI_TOKEN"


def is_url(source: str) -> bool:
    """Whether the text is the URL of a server."""
    return source.split("://", 1)[0] in SCHEMES and "://" in source


def add_url_options(parser: argparse.ArgumentParser, key: str = "--key") -> None:
    """Add the options for connecting to a server. `key` is the name of the option for the private key."""
    group = parser.add_argument_group(
        "servers",
        filled(
            "URLs are ws://HOST:PORT/PATH, wss://…, tcp://HOST:PORT and tcps://…. A token in the "
            f"environment, {TOKEN}, is sent as `Authorization: Bearer`."
        ),
    )
    group.add_argument(
        "--header", action="append", default=[], metavar="K:V", help="one more request header; repeatable"
    )
    group.add_argument("--ca", metavar="FILE", help="certificates to trust, instead of the system's")
    group.add_argument("--cert", metavar="FILE", help="certificate of this client")
    group.add_argument(key, dest="key", metavar="FILE", help="its private key, if that is another file")


@dataclass(frozen=True)
class Place:
    """A server, and the options for connecting to it.

    Attributes
    ----------
    url : str
        The URL as it was given.
    is_tcp : bool
    addr : str
        Argument for ``connect`` of the class that `is_tcp` selects.
    options : dict
        More keyword arguments for it.
    """

    url: str
    is_tcp: bool
    addr: str
    options: dict[str, Any]

    def ask(self) -> Schemas:
        """The server's schemas, without types. Runs an event loop of its own.

        Raises
        ------
        CommandError
            The server cannot be reached, or does not exchange schemas.
        """
        options = {name: value for name, value in self.options.items() if name != "schema"}
        asking = ask_tcp(self.addr, **options) if self.is_tcp else ask_websocket(self.addr, **options)
        try:
            return asyncio.run(asking)
        except (ComError, ValueError) as error:
            raise CommandError(f"{self.url}: {error}") from error

    def connect(self, down: Any, up: Any = None, **options: Any) -> Opening[Any]:
        """Open a client for these types. `options` are those of its ``connect``."""
        cls: Any = Client if self.is_tcp else WsClient
        made: Opening[Any] = cls[down, up].connect(
            self.addr, **{"schema": "check", **self.options, **options}
        )
        return made


def server_of(url: str, options: argparse.Namespace) -> Place:
    """The server that a URL and the options of `add_url_options` describe.

    Raises
    ------
    CommandError
        The URL is invalid, an option is malformed or not valid for it, or a file cannot be used.
    """
    scheme = url.split("://", 1)[0]
    if not is_url(url):
        fail(f"{url!r} is no URL of a server: ws://, wss://, tcp:// or tcps://")
    secure = scheme in ("wss", "tcps")
    if (options.ca or options.cert or options.key) and not secure:
        fail(f"--ca, --cert and the private key are for TLS: {scheme}s:// instead of {scheme}://?")
    found: dict[str, Any] = {}
    if secure:
        found["ssl"] = tls_of(options)
    headers = [_header(text) for text in options.header]
    if scheme.startswith("tcp"):
        if headers:
            fail("TCP has no headers")
        parts = urlsplit(url)
        if parts.path not in ("", "/") or parts.query:
            fail(f"TCP has no paths: {scheme}://HOST:PORT, not {url}")
        return Place(url, True, parts.netloc, found)
    token = os.environ.get(TOKEN)
    if token and not any(name.lower() == "authorization" for name, _ in headers):
        headers.append(("Authorization", f"Bearer {token}"))
    return Place(url, False, url, found | ({"headers": headers} if headers else {}))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        fail(f"--header takes K:V, not {text!r}")
    return name.strip(), value.strip()


def tls_of(options: argparse.Namespace) -> ssl_module.SSLContext:
    """Make a client's TLS context from --ca, --cert and the private key."""
    if options.key and not options.cert:
        fail("a private key needs its certificate: give --cert too")
    try:
        context = ssl_module.create_default_context(cafile=options.ca)
        if options.cert:
            context.load_cert_chain(options.cert, options.key)
    except (OSError, ssl_module.SSLError) as error:
        names = ", ".join(filter(None, (options.ca, options.cert, options.key)))
        raise CommandError(f"{names}: {error}") from error
    return context
