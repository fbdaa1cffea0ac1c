"""Typed values broadcast over WebSocket and TCP, encoded once, with memory that stays bounded."""

from deli_com import _abi  # first: refuses to go on beside another picows than the one built for

__version__ = _abi.VERSION
