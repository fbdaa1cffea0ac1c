"""Addresses, sockets and transports, before any protocol is spoken."""
