"""Typed values broadcast over WebSocket and TCP, encoded once, with memory that stays bounded."""

from deli_com import _abi  # first: refuses to go on beside another picows than the one built for
from deli_com._connection import Peer
from deli_com._fastcodec import TypeCodec
from deli_com._group import Group
from deli_com.address import Address
from deli_com.background import Background, serve_background
from deli_com.departure import Departure
from deli_com.errors import (
    BacklogFull,
    ComError,
    ConnectionClosed,
    DecodeError,
    EncodeError,
    InvalidBool,
    InvalidUtf8,
    InvalidVariant,
    IoError,
    MessageTooLarge,
    UnexpectedEof,
    WebSocketError,
)
from deli_com.record import Codec
from deli_com.registry import codec
from deli_com.stats import PeerStats, ServerStats
from deli_com.tcp.client import Client
from deli_com.tcp.server import Server
from deli_com.types import Array, FixedArray, f32, f64, field, i8, i16, i32, i64, u8, u16, u32, u64
from deli_com.ws.client import WsClient
from deli_com.ws.server import WsServer
from deli_com.ws.service import Request

__all__ = [
    "Address",
    "Array",
    "Background",
    "BacklogFull",
    "Client",
    "Codec",
    "ComError",
    "ConnectionClosed",
    "DecodeError",
    "Departure",
    "EncodeError",
    "FixedArray",
    "Group",
    "InvalidBool",
    "InvalidUtf8",
    "InvalidVariant",
    "IoError",
    "MessageTooLarge",
    "Peer",
    "PeerStats",
    "Request",
    "Server",
    "ServerStats",
    "TypeCodec",
    "UnexpectedEof",
    "WebSocketError",
    "WsClient",
    "WsServer",
    "codec",
    "f32",
    "f64",
    "field",
    "i8",
    "i16",
    "i32",
    "i64",
    "serve_background",
    "u8",
    "u16",
    "u32",
    "u64",
]

__version__ = _abi.VERSION
