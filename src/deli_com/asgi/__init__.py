"""Servers as ASGI applications: ``server.asgi()``."""
