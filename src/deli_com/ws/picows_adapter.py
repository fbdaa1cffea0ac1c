"""Adapts picows: its protocol for each side, its logger, and a way to feed it bytes."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from picows import WSAutoPingStrategy, WSListener, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]

__all__ = ["answer_with", "client_protocol", "feed", "server_protocol"]

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class _PicowsLog(_Adapter):
    """An adapter is needed, because picows makes a new `logging.Logger` for each connection from a plain one.

    Errors that a peer can cause at will (``WS parser error``) are logged as DEBUG in place of ERROR. The
    connection ends with a close code and a reason, and peers must not be able to flood the log.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logger, {})
        self.isEnabledFor = logger.isEnabledFor  # type: ignore[method-assign]  # asked twice a connection

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        if self.isEnabledFor(logging.DEBUG):
            self.log(logging.DEBUG, msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        level = logging.DEBUG if isinstance(msg, str) and msg.startswith("WS parser error") else logging.ERROR
        self.log(level, msg, *args, **kwargs)


_log: logging.LoggerAdapter[logging.Logger] = _PicowsLog(logging.getLogger("deli_com.picows"))


class _Switching(WSUpgradeResponse):
    """A 101 response whose headers are rendered already, all but the one that picows adds."""

    status = HTTPStatus.SWITCHING_PROTOCOLS

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.headers: dict[str, str] = {}  # type: ignore[assignment]  # picows adds one, by name

    def to_bytes(self) -> bytearray:
        added = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return bytearray(self.head + added.encode() + b"\r\n")


@functools.lru_cache(maxsize=64)
def _head_of(headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return (
        f"HTTP/1.1 101 Switching Protocols\r\n{lines}Connection: upgrade\r\nUpgrade: websocket\r\n".encode()
    )


def answer_with(listener: WSListener, headers: tuple[tuple[str, str], ...]) -> WSUpgradeResponseWithListener:
    """The answer of an accepted handshake, with these headers in addition to those of RFC 6455."""
    return WSUpgradeResponseWithListener(_Switching(_head_of(headers)), listener)


def server_protocol(
    answer: WSUpgradeResponseWithListener, *, max_frame_size: int, read_buffer_bytes: int
) -> WSProtocol:
    """picows' protocol for a connection that this side has accepted.

    Parameters
    ----------
    answer : WSUpgradeResponseWithListener
        Its answer to any request. The real request has been read and checked already.
    max_frame_size, read_buffer_bytes : int
        Bytes.
    """
    return _protocol(None, None, False, lambda _: answer, max_frame_size, None, read_buffer_bytes)


def client_protocol(
    host: str,
    resource: str,
    listener: Callable[[], WSListener | None],
    *,
    max_frame_size: int,
    extra_headers: Any,
    read_buffer_bytes: int,
) -> WSProtocol:
    """picows' protocol for a connection that this side opens. Once connected, it sends the request.

    Parameters
    ----------
    host, resource : str
        The Host header, and the path with its query.
    listener : callable
        Called for the listener when the server has answered 101.
    max_frame_size, read_buffer_bytes : int
        Bytes.
    extra_headers : list of (str, str)
        More headers of the request.
    """
    return _protocol(
        host,
        resource,
        True,
        lambda request, response: listener(),
        max_frame_size,
        extra_headers,
        read_buffer_bytes,
    )


def _protocol(
    host: str | None,
    resource: str | None,
    is_client: bool,
    listener_factory: Callable[..., Any],
    max_frame_size: int,
    extra_headers: Any,
    read_buffer_bytes: int,
) -> WSProtocol:
    return WSProtocol(
        host,
        resource,
        is_client,
        listener_factory,
        _log,
        True,  # if a listener raises, its connection ends
        None,  # no handshake timeout: acceptor and connector have their own
        False,  # no automatic ping: the sweep sends PINGs
        0,
        0,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # no automatic pong: picows queues pongs without a limit
        max_frame_size,
        extra_headers,
        read_buffer_bytes,
    )


def feed(protocol: Any, transport: asyncio.BaseTransport, data: bytes) -> None:
    """Feed bytes to a buffered protocol as a transport would, until it closes the transport."""
    while data and not transport.is_closing():
        buffer = protocol.get_buffer(len(data))
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        del buffer  # its memory may be freed or handed over now
        protocol.buffer_updated(size)
        data = data[size:]
