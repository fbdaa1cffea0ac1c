"""A server that passes on what another server sends, to any number of clients, without its classes."""

from deli_com.relay.relay import Relay, RelayStats

__all__ = ["Relay", "RelayStats"]
