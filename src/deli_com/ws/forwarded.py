"""For whom an HTTP proxy asks: ``X-Forwarded-For``, or ``Forwarded`` (RFC 7239), from trusted proxies.

::

    forwarding = Forwarding(trust, header="x-forwarded-for", host=False)
    seen = forwarding.read(headers, peer, secure)      # Asker, or the Refusal to send
    seen.remote, seen.via, seen.host, seen.secure

Each proxy adds at the right end the address that connected to it. The walk begins at the connection's own
address and goes left while the address is trusted. The first address that is not trusted is the client's.
What stands to the left of it is the client's own claim, and is not read. An entry that is no address
(``unknown``) ends the walk at the proxy that wrote it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from multidict import CIMultiDict

from deli_com.net.address import Address, plain_ip
from deli_com.net.proxy_protocol import Trust, trusts
from deli_com.ws.head import Refusal

__all__ = ["NOBODY", "Asker", "ForwardedHeader", "Forwarding"]

ForwardedHeader: TypeAlias = Literal["x-forwarded-for", "forwarded"]

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(rf'[ \t]*({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*")[ \t]*')
_HOST = re.compile(r"(?:[A-Za-z0-9_.\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SECURE = {"https": True, "wss": True, "http": False, "ws": False}


class Asker(NamedTuple):
    """Who asks, as far as it is known.

    Attributes
    ----------
    remote : Address or None
        The client's address; port 0 where the proxy does not say it.
    via : Address or None
        The proxy's address; None if the client has connected itself.
    host : str
        The host that the client has asked for, as in ``Host``.
    host_is_proxys : bool
        `host` is what the proxy wrote in its own request, maybe its own address for this server.
    secure : bool
        The client speaks TLS, to the proxy or to this server.
    """

    remote: Address | None
    via: Address | None
    host: str
    host_is_proxys: bool
    secure: bool


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Which proxies are believed, and by which header.

    Attributes
    ----------
    trust : Trust
        Networks of the proxies; True: loopback and Unix sockets; None: nobody is believed.
    header : str
        ``"x-forwarded-for"`` or ``"forwarded"``. The other one is not read: a proxy passes on what the client
        wrote there.
    host : bool
        Believe what the proxies say of host and scheme as well: ``X-Forwarded-Host`` and
        ``X-Forwarded-Proto``, or ``host=`` and ``proto=`` of ``Forwarded``.
    """

    trust: Trust = None
    header: ForwardedHeader = "x-forwarded-for"
    host: bool = False

    def read(self, headers: CIMultiDict[str], peer: Address | None, secure: bool) -> Asker | Refusal:
        """Read who asks.

        Parameters
        ----------
        headers : CIMultiDict
            Of the request.
        peer : Address or None
            Who has connected.
        secure : bool
            This connection uses TLS.

        Returns
        -------
        Asker or Refusal
            400 for a header that a trusted proxy cannot have meant so.
        """
        host = headers.get("Host", "")
        if not trusts(self.trust, peer):
            return Asker(peer, None, host, False, secure)
        if self.header == "forwarded":
            return self._read_forwarded(headers, peer, host, secure)
        entries = [entry for line in headers.getall("X-Forwarded-For", []) for entry in line.split(",")]
        remote, _ = self._walk([entry.strip(" \t") for entry in entries], peer)
        said_host, said_proto = "", ""
        if self.host:
            said_host = _last(headers, "X-Forwarded-Host")
            said_proto = _last(headers, "X-Forwarded-Proto")
        return _seen(remote, peer, host, secure, said_host, said_proto)

    def _read_forwarded(
        self, headers: CIMultiDict[str], peer: Address | None, host: str, secure: bool
    ) -> Asker | Refusal:
        elements: list[dict[str, str]] = []
        for line in headers.getall("Forwarded", []):
            try:
                elements += _elements(line)
            except ValueError:
                return Refusal(400, "the Forwarded header is none (RFC 7239)")
        remote, place = self._walk([element.get("for", "") for element in elements], peer)
        element = elements[place] if self.host and place < len(elements) else {}
        return _seen(remote, peer, host, secure, element.get("host", ""), element.get("proto", ""))

    def _walk(self, entries: list[str], peer: Address | None) -> tuple[Address | None, int]:
        """Return the client's address, and the index of the entry that says it."""
        remote, place = peer, len(entries)
        while place and trusts(self.trust, remote):
            found = _address(entries[place - 1])
            if found is None:
                break
            remote, place = found, place - 1
        return remote, place


NOBODY = Forwarding()  # is believed


def _seen(
    remote: Address | None, peer: Address | None, host: str, secure: bool, said_host: str, said_proto: str
) -> Asker | Refusal:
    if said_host and not _HOST.fullmatch(said_host):
        return Refusal(400, "the host that the proxy names is none")
    return Asker(
        remote,
        None if remote is peer else peer,
        said_host or host,
        not said_host,
        _SECURE.get(said_proto.lower(), secure),
    )


def _last(headers: CIMultiDict[str], name: str) -> str:
    lines = headers.getall(name, [])
    return lines[-1].rpartition(",")[2].strip(" \t") if lines else ""


def _address(text: str) -> Address | None:
    """Read ``1.2.3.4``, ``1.2.3.4:port``, ``::1``, ``[::1]`` or ``[::1]:port``."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return None
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    # RFC 7239 section 6: a port may be obfuscated ("_hidden"); the address stands all the same.
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else 0
    return Address(plain_ip(host), number if number < 65536 else 0)


def _elements(line: str) -> Iterator[dict[str, str]]:
    """Read the elements of one line of ``Forwarded``, names in lower case; `ValueError` for none."""
    element: dict[str, str] = {}
    at = 0
    while True:
        found = _PAIR.match(line, at)
        if found is None:
            raise ValueError
        name, value = found[1].lower(), found[2]
        if name in element:
            raise ValueError  # RFC 7239 section 4: once in an element
        element[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        at = found.end()
        if at == len(line):
            yield element
            return
        if line[at] == ",":
            yield element
            element = {}
        elif line[at] != ";":
            raise ValueError
        at += 1
