"""The client behind HTTP proxies: ``X-Forwarded-For``, or ``Forwarded`` (RFC 7239), from trusted proxies.

::

    forwarding = Forwarding(trust, header="x-forwarded-for", host=False)
    seen = forwarding.read(headers, peer, secure)      # Asker, or the Refusal to send
    seen.remote, seen.via, seen.host, seen.secure

Each proxy appends the address of its own peer at the right end. The walk begins at the connection's own
address and goes left while the address is trusted. The first address that is not trusted is the client's.
Entries to the left of it were sent by the client, and are not read. An entry that is no address (``unknown``)
ends the walk at the proxy that wrote it.
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
    """The client of a request, as far as it is known.

    Attributes
    ----------
    remote : Address or None
        The client's address. The port is 0 if the proxy does not send it.
    via : Address or None
        The proxy's address; None if the client has connected directly.
    host : str
        The host that the client has asked for, in the form of ``Host``.
    host_is_proxys : bool
        True if `host` is from the proxy's own request. It may be the proxy's address for this server.
    secure : bool
        True if the client uses TLS, to the proxy or to this server.
    """

    remote: Address | None
    via: Address | None
    host: str
    host_is_proxys: bool
    secure: bool


@dataclass(frozen=True, slots=True)
class Forwarding:
    """The proxies that are trusted, and the header that they set.

    Attributes
    ----------
    trust : Trust
        Networks of the proxies; True: loopback and Unix sockets; None: no peer is trusted.
    header : str
        ``"x-forwarded-for"`` or ``"forwarded"``. The other one is not read: a proxy passes on what the client
        wrote there.
    host : bool
        Trust the proxies for host and scheme, too: ``X-Forwarded-Host`` and ``X-Forwarded-Proto``, or
        ``host=`` and ``proto=`` of ``Forwarded``.
    """

    trust: Trust = None
    header: ForwardedHeader = "x-forwarded-for"
    host: bool = False

    def read(self, headers: CIMultiDict[str], peer: Address | None, secure: bool) -> Asker | Refusal:
        """Find the client of a request.

        Parameters
        ----------
        headers : CIMultiDict
            Headers of the request.
        peer : Address or None
            Address of the peer of the connection.
        secure : bool
            Whether this connection uses TLS.

        Returns
        -------
        Asker or Refusal
            Refusal 400: a trusted proxy has sent a malformed header.
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
                return Refusal(400, "the Forwarded header is malformed (RFC 7239)")
        remote, place = self._walk([element.get("for", "") for element in elements], peer)
        element = elements[place] if self.host and place < len(elements) else {}
        return _seen(remote, peer, host, secure, element.get("host", ""), element.get("proto", ""))

    def _walk(self, entries: list[str], peer: Address | None) -> tuple[Address | None, int]:
        """The client's address, and the index of the entry that holds it."""
        remote, place = peer, len(entries)
        while place and trusts(self.trust, remote):
            found = _address(entries[place - 1])
            if found is None:
                break
            remote, place = found, place - 1
        return remote, place


NOBODY = Forwarding()  # trusts no peer


def _seen(
    remote: Address | None, peer: Address | None, host: str, secure: bool, said_host: str, said_proto: str
) -> Asker | Refusal:
    if said_host and not _HOST.fullmatch(said_host):
        return Refusal(400, "the host that the proxy sends is malformed")
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
    # RFC 7239 section 6: a port may be obfuscated ("_hidden"). The address is still valid.
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else 0
    return Address(plain_ip(host), number if number < 65536 else 0)


def _elements(line: str) -> Iterator[dict[str, str]]:
    """The elements of one line of ``Forwarded``, with names in lower case; `ValueError` if malformed."""
    element: dict[str, str] = {}
    at = 0
    while True:
        found = _PAIR.match(line, at)
        if found is None:
            raise ValueError
        name, value = found[1].lower(), found[2]
        if name in element:
            raise ValueError  # RFC 7239 section 4: a name may occur once in an element
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
