"""Addresses, sockets and transports: the layer below every protocol."""
