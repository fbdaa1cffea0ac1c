"""What a relay is given: URLs, a token, names of classes, schemas."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from deli_com.coding.registry import codec
from deli_com.net.address import Address, parse_target, unix_path
from deli_com.net.http_proxy import is_loopback
from deli_com.schema.question import Schemas
from deli_com.tcp.client import Client
from deli_com.types.instance import RecordType, record_spec
from deli_com.ws.client import WsClient

__all__ = ["checked_dial", "checked_token", "client_of", "indices", "is_here", "texts", "types_of"]


def texts(schemas: Schemas) -> tuple[str, str | None]:
    """Return what schemas are compared by: the texts, because hashes leave out the policies."""
    return schemas.down.text, None if schemas.up is None else schemas.up.text


def types_of(schemas: Schemas, only: frozenset[str]) -> tuple[Any, Any]:
    """Make types from the schemas; ValueError if they cannot be served."""
    down: Any = schemas.down.load()
    up: Any = None if schemas.up is None else schemas.up.load()
    try:
        codec(down)
        codec(up if up is not None else down)
    except TypeError as error:
        raise ValueError(str(error)) from None
    indices(down, only)
    return down, up


def indices(root: Any, only: frozenset[str]) -> list[int] | None:
    """Return the indices of the classes that are passed on; None: all are.

    Raises
    ------
    ValueError
        One of the names is no class of the schema's root.
    """
    if not only:
        return None
    spec: Any = record_spec(root) if isinstance(root, RecordType) else None
    names = (
        [cls.__name__ for cls in spec.variants.values()]
        if spec is not None and spec.sealed
        else [_name(root)]
    )
    missing = sorted(only.difference(names))
    if missing:
        raise ValueError(f"no {', '.join(missing)} is sent there: {', '.join(names)}")
    return [index for index, name in enumerate(names) if name in only]


def _name(root: Any) -> str:
    return getattr(root, "__name__", str(root))


def client_of(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    """The class of clients for a URL, and the address for its ``connect``."""
    scheme = urlsplit(url).scheme
    if scheme not in ("ws", "wss", "tcp", "tcps"):
        raise ValueError(f"{url!r} is no URL of a server: ws://, wss://, tcp:// or tcps://")
    is_tcp = scheme.startswith("tcp")
    classes: dict[bool, Any] = {True: Client, False: WsClient}
    base = classes[is_tcp]
    addr = urlsplit(url).netloc if is_tcp else url
    if scheme == "tcps":
        options.setdefault("ssl", True)
    base[bytes].connect(addr, **{**options, "schema": "require"}).close()  # for its errors
    return base, addr


def checked_token(token: str) -> str:
    """Check that a token can be sent in a header; TypeError or ValueError if not."""
    if not isinstance(token, str):
        raise TypeError(f"a token is a str, not {type(token).__name__}")
    if not token or any(not 0x21 <= ord(character) <= 0x7E for character in token):
        raise ValueError("a token has one or more ASCII characters, without spaces")
    return token


def checked_dial(url: str) -> str:
    """Check the URL of a hub; ValueError if the token would be sent to another machine without TLS."""
    if urlsplit(url).scheme not in ("ws", "wss"):
        raise ValueError(f"the URL of a hub begins with ws:// or wss://: {url!r}")
    target = parse_target(url)
    if not target.secure and not is_here(target.address):
        raise ValueError(f"the token must not be sent in clear: use wss://, not {url!r}")
    return url


def is_here(address: Address | None) -> bool:
    """Whether an address belongs to this machine."""
    return address is not None and (unix_path(address) is not None or is_loopback(address.host))
