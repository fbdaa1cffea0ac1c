"""Joins several servers: what one of them sends reaches the clients of all (extra ``deli-com[nats]``).

::

    from deli_com.backplane import Nats

    server = await WsServer[Quote, None].bind(addr, backplane=Nats("nats://127.0.0.1:4222", room="quotes"))
"""

from deli_com.backplane.memory import Memory
from deli_com.backplane.nats import Nats
from deli_com.backplane.protocol import Backplane, Unreachable
from deli_com.link.stats import BackplaneStats

__all__ = ["Backplane", "BackplaneStats", "Memory", "Nats", "Unreachable"]
