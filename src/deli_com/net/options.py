"""The rules for the options of `bind`, `connect` and related calls: one rule for each option.

::

    @classmethod
    @checking_options({"ssl": "server_ssl"})     # for a rule that has another name than the option
    def bind(cls, addr, *, ssl=None, max_backlog=16 << 20): ...

The signature and the docstring of a call list its options. `RULES` has the valid values of each option. The
call gets checked values. A misspelt option, ``bind(max_bakclog=…)``, raises an error that suggests the right
name. An option of two calls has one default (tests/unit/test_options.py).

An error names the option, its value, and what is expected. It is a `TypeError` for a wrong type and a
`ValueError` for a wrong value.
"""

from __future__ import annotations

import functools
import inspect
import ipaddress
import math
import operator
import os
import re
import socket
import ssl as ssl_module
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar, cast

from deli_com.types.delivery import POLICIES

__all__ = ["RULES", "checked", "checking_options", "one_checked", "unexpected", "wrong"]

MOST = (1 << 63) - 1  # sys.maxsize, which programs use for "no limit"
USED = 1 << 60  # its internal value, so that products do not overflow
LEAST_S = 0.001  # least value of a repeated interval, to prevent a busy loop
LONGEST_S = 1e8  # three years; event loops fail with much larger numbers
ALWAYS = "a limit is required, so None is not allowed"
_SIZE = re.compile(r"\s*(\d{1,9})\s*([kmg])(?:i?b)?\s*", re.IGNORECASE)
_SHIFT = {"k": 10, "m": 20, "g": 30}
OF_CLASSES = ("policy", "key", "retain", "max_age")  # options of message classes

F = TypeVar("F", bound=Callable[..., Any])


class Rule(Protocol):
    """Checks the value of one option and returns its internal value, or raises."""

    def __call__(self, name: str, value: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Count:
    """An integer: an int or an object with ``__index__``, but no bool."""

    unit: str  # singular, such as "byte"
    least: int = 1
    most: int = MOST
    none: str = ""  # what None means; empty if None is not allowed
    why: str = ""  # the reason for `most`

    def __call__(self, name: str, value: Any, /) -> int | None:
        if self.none and value is None:
            return None
        number: Any = value
        if isinstance(value, bool) or not hasattr(type(value), "__index__"):
            raise TypeError(wrong(name, value, self._expected(), self._hint(value)))
        count = operator.index(number)
        if not self.least <= count <= self.most:
            raise ValueError(wrong(name, count, self._expected()))
        return min(count, USED)

    def _expected(self) -> str:
        bounds = f"{self.least} or more" if self.most == MOST else f"{self.least} to {self.most}"
        text = f"{self.unit}s as an int, {bounds}"
        text += f" ({self.why})" if self.why else ""
        return f"{text}, or None: {self.none}" if self.none else f"{text}; {ALWAYS}"

    def _hint(self, value: object) -> str:
        if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
            return f"write {found[1]} << {_SHIFT[found[2].lower()]}"
        if isinstance(value, str) and value.strip().isdecimal() and value.isascii() and len(value) < 20:
            return f"write {int(value)}"
        if isinstance(value, float) and value.is_integer() and abs(value) < MOST:
            return f"write {int(value)}"
        return ""


@dataclass(frozen=True, slots=True)
class Seconds:
    """A real number, but no bool. Infinity is the same as None if None is allowed."""

    least: float = 0.0
    none: str = ""  # what None means; empty if None is not allowed

    def __call__(self, name: str, value: Any, /) -> float | None:
        if self.none and value is None:
            return None
        number: Any = value
        if isinstance(value, (bool, str, bytes, bytearray)) or not (
            hasattr(type(value), "__float__") or hasattr(type(value), "__index__")
        ):
            raise TypeError(wrong(name, value, self._expected(), self._hint(value)))
        try:
            seconds = float(number)
        except OverflowError:
            seconds = math.inf if number > 0 else -math.inf
        if self.none and seconds > LONGEST_S:
            return None
        if not self.least <= seconds <= LONGEST_S:  # also false for NaN
            raise ValueError(wrong(name, value, self._expected()))
        return seconds

    def _expected(self) -> str:
        text = "seconds" if self.least < 0 else f"seconds, {self.least:g} or more"
        return f"{text}, or None: {self.none}" if self.none else f"{text}, at most {LONGEST_S:g}; {ALWAYS}"

    def _hint(self, value: object) -> str:
        return "write .total_seconds()" if hasattr(value, "total_seconds") else ""


def _factor(name: str, value: Any, /) -> float:
    expected = "a number over 0: 1 is as fast as it was, 2 twice as fast"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(wrong(name, value, expected))
    if not 0 < value <= MOST:  # nor is NaN
        raise ValueError(wrong(name, value, expected))
    return float(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several names, or None if it is a choice."""

    names: tuple[str, ...]
    none: bool = False

    def __call__(self, name: str, value: Any, /) -> str | None:
        known = ", ".join(map(repr, self.names)) + (", or None" if self.none else "")
        if self.none and value is None:
            return None
        if not isinstance(value, str):
            raise TypeError(wrong(name, value, f"one of {known}"))
        if value not in self.names:
            near = get_close_matches(value.lower(), self.names, 1)
            raise ValueError(
                wrong(name, value, f"one of {known}", f"did you mean {near[0]!r}?" if near else "")
            )
        return value


@dataclass(frozen=True, slots=True)
class Function:
    """A callable, or None."""

    signature: str

    def __call__(self, name: str, value: Any, /) -> Any:
        if value is not None and not callable(value):
            raise TypeError(wrong(name, value, f"a function {self.signature}, or None"))
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """A str, or None for the default."""

    what: str

    def __call__(self, name: str, value: Any, /) -> str | None:
        if value is not None and not isinstance(value, str):
            raise TypeError(wrong(name, value, f"{self.what} as a str, or None"))
        return value


@dataclass(frozen=True, slots=True)
class Tls:
    """An SSL context for this side, or None. A client may also pass True and False."""

    is_client: bool

    def __call__(self, name: str, value: Any, /) -> Any:
        if value is None or (self.is_client and isinstance(value, bool)):
            return value
        side = "client" if self.is_client else "server"
        expected = f"an ssl.SSLContext for a {side}"
        expected += ", True, False or None" if self.is_client else ", or None"
        if not isinstance(value, ssl_module.SSLContext):
            raise TypeError(wrong(name, value, expected))
        other = ssl_module.PROTOCOL_TLS_SERVER if self.is_client else ssl_module.PROTOCOL_TLS_CLIENT
        if value.protocol is other:
            purpose = "SERVER_AUTH" if self.is_client else "CLIENT_AUTH"
            raise ValueError(
                f"{name} is a context for the other side, expected {expected}: "
                f"ssl.create_default_context(ssl.Purpose.{purpose})"
            )
        return value


def _names(name: str, value: Any, /) -> Any:
    # ws/head.py checks the syntax of each. They are copied, because an iterator can be read only once.
    expected = "a list or tuple of str"
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Iterable):
        raise TypeError(wrong(name, value, expected))
    names = tuple(value)
    for item in names:
        if not isinstance(item, str):
            raise TypeError(f"{name} has {_shown(item)} in it, expected {expected}")
    return names


def _hosts(name: str, value: Any, /) -> Any:
    return None if value is None else _names(name, value)


def _origins(name: str, value: Any, /) -> Any:
    expected = "a list of str such as 'https://example.com', a function (origin) -> bool, or None"
    if value is None or callable(value):
        return value
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Collection):
        raise TypeError(wrong(name, value, expected, "write a list" if isinstance(value, str) else ""))
    for item in value:
        if not isinstance(item, str):
            raise TypeError(f"{name} has {_shown(item)} in it, expected {expected}")
    return value


def _headers(name: str, value: Any, /) -> Any:
    # Copied as pairs, because an iterator can be read only once. ws/head.py checks their syntax.
    expected = "a mapping of str to str, or pairs of them"
    if value is None:
        return None
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Iterable):
        raise TypeError(wrong(name, value, expected))
    pairs = tuple(value.items() if isinstance(value, Mapping) else value)
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(i, str) for i in pair):
            raise TypeError(f"{name} has {_shown(pair)} in it, expected {expected}")
    return pairs


def _http(name: str, value: Any, /) -> Any:
    # ws/site.py checks the paths and values of a mapping.
    if value is not None and not callable(value) and not isinstance(value, Mapping):
        raise TypeError(wrong(name, value, "a function (request), a mapping of paths, or None"))
    return value


def _page(name: str, value: Any, /) -> Any:
    if not isinstance(value, bool) and value != "send":
        raise (ValueError if isinstance(value, str) else TypeError)(
            wrong(name, value, 'True, False, or "send": with a form that sends values')
        )
    return value


def _record(name: str, value: Any, /) -> Any:
    expected = "a path (str or os.PathLike), the arguments of `record` by name, or None"
    if value is None or isinstance(value, (str, os.PathLike)):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(wrong(name, value, expected))
    if "path" not in value:
        raise ValueError(f"{name} has no 'path', expected {expected}")
    return {key: one_checked(key, one) if key in _OF_FILES else one for key, one in value.items()}


def _client_record(name: str, value: Any, /) -> Any:
    return value if callable(value) else _record(name, value)


def _backplane(name: str, value: Any, /) -> Any:
    expected = "a backplane, such as deli_com.backplane.Nats, or None"
    if value is not None and not all(
        callable(getattr(value, each, None)) for each in ("open", "publish", "close")
    ):
        raise TypeError(wrong(name, value, expected))
    return value


def _foxglove(name: str, value: Any, /) -> bool | str:
    expected = 'True, "publish" or False'
    if isinstance(value, str) and value != "publish":
        raise ValueError(wrong(name, value, expected))
    if not isinstance(value, (bool, str)):
        raise TypeError(wrong(name, value, expected))
    return value


def _codes(name: str, value: Any, /) -> frozenset[int] | None:
    expected = "a collection of close codes, 1000 to 4999"
    if value is None:
        return None
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Iterable):
        hint = f"write {{{value}}}" if isinstance(value, int) else ""
        raise TypeError(wrong(name, value, expected, hint))
    codes = tuple(value)
    for code in codes:
        if isinstance(code, bool) or not isinstance(code, int):
            raise TypeError(f"{name} has {_shown(code)} in it, expected {expected}")
        if not 1000 <= code <= 4999:
            raise ValueError(f"{name} has {_shown(code)} in it, expected {expected}")
    return frozenset(codes)


def _flag(name: str, value: Any, /) -> bool:
    if not isinstance(value, bool):
        raise TypeError(wrong(name, value, "True or False"))
    return value


def _socket(name: str, value: Any, /) -> Any:
    if value is not None and not isinstance(value, socket.socket):
        raise TypeError(wrong(name, value, "a socket.socket, or None"))
    return value


def _mode(name: str, value: Any, /) -> int | None:
    expected = "permissions as an int, 0 to 0o777, or None: 0o600"
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(wrong(name, value, expected))
    mode = operator.index(value)
    if not 0 <= mode <= 0o777:
        raise ValueError(wrong(name, mode, expected))
    return mode


@dataclass(frozen=True, slots=True)
class Networks:
    """Trusted peers: networks, True for this machine, or None."""

    none: str  # what None means

    def __call__(self, name: str, value: Any, /) -> Any:
        expected = (
            'a list of networks such as "10.0.0.0/8", True for loopback and Unix sockets, '
            f"or None: {self.none}"
        )
        if value is None or isinstance(value, bool):
            return value or None
        if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Iterable):
            raise TypeError(wrong(name, value, expected, "write a list" if isinstance(value, str) else ""))
        networks: list[Any] = []
        for item in value:
            if isinstance(item, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
                networks.append(item)
                continue
            if not isinstance(item, str):
                raise TypeError(f"{name} has {_shown(item)} in it, expected {expected}")
            try:
                networks.append(ipaddress.ip_network(item))
            except ValueError as error:
                raise ValueError(f"{name} has {item!r} in it, expected {expected}: {error}") from None
        return tuple(networks)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's URL (checked by net/http_proxy.py), or None. True uses the environment."""

    has_environment: bool

    def __call__(self, name: str, value: Any, /) -> Any:
        if value is None or (self.has_environment and isinstance(value, bool)):
            return value or None
        if not isinstance(value, str):
            expected = 'a URL such as "http://proxy:3128", '
            expected += "True for the environment's, " if self.has_environment else ""
            raise TypeError(wrong(name, value, f"{expected}or None: connect directly"))
        return value


NEVER = "never"
RULES: Mapping[str, Rule] = {
    "slow_client": Choice(POLICIES),
    "schema": Choice(("check", "require"), none=True),
    "max_backlog": Count("byte"),
    "max_keys": Count("key"),
    "max_message_size": Count("byte"),
    "max_frame_bytes": Count("byte", 1, (1 << 32) - 1, why="a length has four bytes"),
    "max_inbox": Count("byte"),
    "conflate": _flag,
    "max_inbound": Count("byte", none="256 MiB, or four times max_message_size"),
    "max_clients": Count("client", 0, none="no limit"),
    "open_timeout": Seconds(LEAST_S, none="no limit"),
    "progress_timeout": Seconds(LEAST_S, none=NEVER),
    "close_timeout": Seconds(),
    "drain": Seconds(),
    "timeout": Seconds(-math.inf, none="no limit"),  # may be what is left of a deadline: 0 or less
    "ping_interval": Seconds(LEAST_S, none=NEVER),
    "ping_timeout": Seconds(LEAST_S, none=NEVER),
    "max_transit": Seconds(LEAST_S, none="no bound"),
    "keepalive_interval": Seconds(LEAST_S, none=NEVER),
    "keepalive_timeout": Seconds(LEAST_S, none=NEVER),
    "first_delay": Seconds(LEAST_S),
    "max_delay": Seconds(LEAST_S),
    "on_connect": Function("(peer)"),
    "on_disconnect": Function("(peer, why)"),
    "on_reconnect": Function("(seconds_away)"),
    "authorize": Function("(request)"),
    "http": _http,
    "page": _page,
    "hosts": _hosts,
    "record": _record,
    "client_record": _client_record,
    "split_bytes": Count("byte", none="one file"),
    "split_seconds": Seconds(LEAST_S, none="one file"),
    "keep": Count("file", none="all stay"),
    "last_seconds": Seconds(LEAST_S),
    "last_bytes": Count("byte"),
    "speed": _factor,
    "loop": _flag,
    "foxglove": _foxglove,
    "backplane": _backplane,
    "http_authorize": Function("(request)"),
    "loop_factory": Function("() that makes an event loop"),
    "path": Text("a path"),
    "origin": Text("an origin"),
    "sock": _socket,
    "mode": _mode,
    "reuse_port": _flag,
    "max_head_bytes": Count("byte", 128),
    "proxy_protocol": Networks("the PROXY protocol is not used"),
    "forwarded_from": Networks("headers of proxies are ignored"),
    "forwarded_header": Choice(("x-forwarded-for", "forwarded")),
    "forwarded_host": _flag,
    "proxy": Proxy(has_environment=True),
    "explicit_proxy": Proxy(has_environment=False),
    "server_hostname": Text("the name in the server's certificate"),
    "server_ssl": Tls(is_client=False),
    "client_ssl": Tls(is_client=True),
    "origins": _origins,
    "subprotocols": _names,
    "headers": _headers,
    "terminal": _codes,
    "response_headers": _headers,
    "n": Count("client", 0),
    "max": Count("value"),
}

# The names of options whose rule has another name, which depends on the call.
_SHOWN = {
    "server_ssl": "ssl",
    "client_ssl": "ssl",
    "max_frame_bytes": "max_message_size",
    "explicit_proxy": "proxy",
    "last_seconds": "seconds",
    "last_bytes": "max_bytes",
}
_OF_FILES = {"split_bytes", "split_seconds", "keep"}  # of a recording


def checked(**options: Any) -> dict[str, Any]:
    """Check options and return their internal values. The first invalid one raises.

    Parameters
    ----------
    **options
        Keyed by the names in `RULES`. ``server_ssl`` and ``client_ssl`` are ``ssl`` for the user;
        ``max_frame_bytes`` is ``max_message_size`` on TCP, whose lengths have four bytes.

    Raises
    ------
    TypeError, ValueError
        The error has the option's name, its value, and what is expected.
    """
    return {_SHOWN.get(name, name): one_checked(name, value) for name, value in options.items()}


def one_checked(name: str, value: Any) -> Any:
    """Check one option, as `checked` does."""
    return RULES[name](_SHOWN.get(name, name), value)


def wrong(name: str, value: object, expected: str, hint: str = "") -> str:
    """Return the text of the error of a wrong option. The value is shortened, since it may be any."""
    return f"{name} is {_shown(value)}, expected {expected}" + (f"; {hint}" if hint else "")


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"an int of {value.bit_length()} bits"  # repr() fails from 4,300 digits on
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def unexpected(call: str, name: str, known: Iterable[str]) -> TypeError:
    """The error for a call without an option `name`. It suggests the option that was meant."""
    near = get_close_matches(name, [*known, *OF_CLASSES], 1)
    if not near:
        hint = ""
    elif near[0] in OF_CLASSES:
        hint = f"; {near[0]} is an option of a message class: class Pose(Codec, {near[0]}=...)"
    else:
        hint = f"; did you mean {near[0]!r}?"
    return TypeError(f"{call} got an unexpected keyword argument {name!r}{hint}")


def checking_options(
    rules: Mapping[str, str], also: Callable[[Any, Mapping[str, Any]], None] | None = None
) -> Callable[[F], F]:
    """Check the options of a class method before it is called. It gets their internal values.

    Parameters
    ----------
    rules : mapping
        Option -> name of its rule, if that differs.
    also : callable, optional
        ``(addr, given)``: raises for options that contradict each other. It gets only the given ones.
        ``addr`` is ``...`` if none was given.
    """

    def decorate(function: F) -> F:
        known = [*inspect.signature(function).parameters][1:]
        rule_of = {name: RULES[rules.get(name, name)] for name in known if name != "addr"}

        @functools.wraps(function)
        def call(cls: type, *addr: Any, **options: Any) -> Any:
            for name, value in options.items():
                if name in rule_of:
                    options[name] = rule_of[name](name, value)
                elif name not in known:
                    raise unexpected(f"{cls.__name__}.{function.__name__}()", name, known)
            if also is not None:
                also(addr[0] if addr else options.get("addr", ...), options)
            return function(cls, *addr, **options)

        return cast(F, call)

    return decorate
