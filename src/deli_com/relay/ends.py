"""Classes for a relay's own connections, by the end that opens them and the end that writes `down`.

::

    reader_of(WsClient, passage, told)     a client of a server: it asks for the schemas
    reader_of(WsServer, passage, told)     a server whose one client is the writer
    writer_of(server, passage)             a client that writes to such a server

Neither encodes nor decodes: messages go to a `Passing`, and come from one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from deli_com.link.passing import pass_through
from deli_com.receive.passage import Passage
from deli_com.schema.asking import AskingTerms, WriterTerms
from deli_com.schema.question import Schemas
from deli_com.ws.client import WsClient
from deli_com.ws.server import WsServer

__all__ = ["reader_of", "served_as", "writer_of"]

# A placeholder for types that are not known yet.
Placeholder = bytes


def reader_of(base: Any, passage: Passage, told: Callable[[Any, Schemas], None]) -> Any:
    """Make a class of clients or servers that ask the other end for both schemas.

    Parameters
    ----------
    base : WsClient, Client or WsServer
    passage : Passage
        Gets the values, as bytes.
    told : callable
        ``(endpoint, schemas)``, called before the first value. If it raises ValueError, the connection ends.
    """

    class Reader(base[Placeholder, Placeholder]):  # type: ignore[misc]
        def _start(self, *args: Any, **limits: Any) -> None:
            super()._start(*args, **{**limits, "schema": None})
            found = weakref.ref(self)

            def tell(schemas: Schemas) -> None:
                endpoint = found()
                if endpoint is not None:
                    told(endpoint, schemas)

            self.terms = AskingTerms(self.down, self.up, logger=self.logger, told=tell)
            pass_through(self, passage)

    Reader.__name__ = Reader.__qualname__ = f"{base.__name__} of a relay"
    return Reader


def writer_of(server: WsServer[Any, Any], passage: Passage) -> Any:
    """Make a class of clients that write what `server` sends, to an end that asks for it.

    Parameters
    ----------
    server : WsServer
        The server whose types the values have.
    passage : Passage
        Gets the values that the other end sends.
    """
    down, up = server.down, server.up
    if down is None:
        raise TypeError("the server sends nothing")
    sent = down  # not None, also for type checkers

    class Writer(WsClient[Placeholder, Placeholder]):
        def _start(self, framing: Any, *_: Any, **limits: Any) -> None:
            super()._start(framing, up, sent, **{**limits, "schema": None})
            self.terms = WriterTerms(sent, up, logger=self.logger)
            pass_through(self, passage)

    Writer.__name__ = Writer.__qualname__ = "WsClient of a relay"
    return Writer


def served_as(down: Any, up: Any, passage: Passage) -> Any:
    """Make a class of servers of types that were made at run time; what clients send goes to `passage`."""

    class Served(WsServer[Any, Any]):
        _types = (down, up)

        def _start(self, *args: Any, **limits: Any) -> None:
            super()._start(*args, **limits)
            pass_through(self, passage)

    Served.__name__ = Served.__qualname__ = "WsServer of a relay"
    return Served
