"""A server without classes: what another server sends, served to any number of clients."""

from deli_com.relay.relay import Relay, RelayStats

__all__ = ["Relay", "RelayStats"]
