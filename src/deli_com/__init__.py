"""Broadcasts typed values over WebSocket and TCP. Each value is encoded once, and memory use is limited."""

import importlib as _importlib
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if "free-threading build" in _sys.version:  # before any compiled module runs without the GIL
    raise ImportError(
        "deli_com does not support free-threaded Python yet: its compiled modules need the GIL. "
        f"Use the ordinary build of CPython {_sys.version_info.major}.{_sys.version_info.minor}."
    )

from deli_com import _abi  # first: raises if picows is not the version of the build
from deli_com._fastcodec import TypeCodec
from deli_com.background import Background, serve_background
from deli_com.blocking import BlockingClient, connect_blocking
from deli_com.coding.codec_class import Codec
from deli_com.coding.registry import codec
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
    NotConnected,
    RecordingError,
    SchemaMismatch,
    UnexpectedEof,
    UnknownVariant,
    WebSocketError,
)
from deli_com.link.departure import Departure
from deli_com.link.group import Group
from deli_com.link.peer import Peer
from deli_com.link.request import Request
from deli_com.link.stats import PeerStats, ServerStats
from deli_com.link.stream_stats import StreamStats
from deli_com.net.address import Address
from deli_com.schema.control import Gap
from deli_com.schema.schema import Schema
from deli_com.stream import Stream
from deli_com.tcp.client import Client
from deli_com.tcp.server import Server
from deli_com.types.kinds import Array, FixedArray, f32, f64, field, i8, i16, i32, i64, u8, u16, u32, u64
from deli_com.types.nanoseconds import Nanoseconds
from deli_com.types.shape import Shape
from deli_com.ws.client import WsClient
from deli_com.ws.head import Refusal
from deli_com.ws.response import Response
from deli_com.ws.server import WsServer

if _TYPE_CHECKING:
    from deli_com.recording.recording import Recording
    from deli_com.replay import Replay

__all__ = [
    "Address",
    "Array",
    "Background",
    "BacklogFull",
    "BlockingClient",
    "Client",
    "Codec",
    "ComError",
    "ConnectionClosed",
    "DecodeError",
    "Departure",
    "EncodeError",
    "FixedArray",
    "Gap",
    "Group",
    "InvalidBool",
    "InvalidUtf8",
    "InvalidVariant",
    "IoError",
    "MessageTooLarge",
    "Nanoseconds",
    "NotConnected",
    "Peer",
    "PeerStats",
    "Recording",
    "RecordingError",
    "Refusal",
    "Replay",
    "Request",
    "Response",
    "Schema",
    "SchemaMismatch",
    "Server",
    "ServerStats",
    "Shape",
    "Stream",
    "StreamStats",
    "TypeCodec",
    "UnexpectedEof",
    "UnknownVariant",
    "WebSocketError",
    "WsClient",
    "WsServer",
    "codec",
    "connect_blocking",
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

# Recordings are imported on first use, because few programs need them.
_LATER = {"Recording": "recording.recording", "Replay": "replay"}


def __getattr__(name: str) -> _Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


# Pickles name the module of a class or function. Those of older versions name these modules, which have
# moved.
for _old, _new in {
    "_record": "types.instance",
    "address": "net.address",
    "departure": "link.departure",
    "stats": "link.stats",
}.items():
    _sys.modules[f"{__name__}.{_old}"] = _sys.modules[f"{__name__}.{_new}"]
