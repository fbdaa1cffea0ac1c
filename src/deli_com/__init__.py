"""Typed values broadcast over WebSocket and TCP, encoded once, with memory that stays bounded."""

from deli_com import _abi  # first: refuses to go on beside another picows than the one built for

from deli_com.address import Address
from deli_com.errors import *  # noqa: F403
from deli_com.ws.client import WsClient
from deli_com.ws.server import WsServer

__version__ = _abi.VERSION
