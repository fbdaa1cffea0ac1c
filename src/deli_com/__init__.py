"""Typed values broadcast over WebSocket and TCP, encoded once, with memory that stays bounded."""

from deli_com import _abi  # first: refuses to go on beside another picows than the one built for

from deli_com._fastcodec import TypeCodec
from deli_com.address import Address
from deli_com.errors import *  # noqa: F403
from deli_com.record import Codec
from deli_com.registry import codec
from deli_com.types import Array, FixedArray, f32, f64, field, i8, i16, i32, i64, u8, u16, u32, u64
from deli_com.ws.client import WsClient
from deli_com.ws.server import WsServer

__version__ = _abi.VERSION
