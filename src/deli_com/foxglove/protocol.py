"""Foxglove's protocol: parses what a viewer sends, and writes what a server sends.

Its messages are JSON or binary. The control texts of `schema.control` are another protocol.

https://github.com/foxglove/ws-protocol/blob/main/docs/spec.md, and for `playbackControl` the source of the
Rust crate `foxglove`. ``foxglove.sdk.v1`` is ``foxglove.websocket.v1`` with `playbackControl`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

__all__ = [
    "ENCODINGS",
    "ERROR",
    "MAX_TEXT",
    "MESSAGE_HEAD",
    "PLAYBACK_STATE",
    "SUBPROTOCOLS",
    "WARNING",
    "Advertise",
    "Advertised",
    "Described",
    "Message",
    "ServiceCall",
    "Subscribe",
    "Unadvertise",
    "Unsubscribe",
    "Unsupported",
    "advertise",
    "parse_binary",
    "parse_text",
    "server_info",
    "service_failure",
    "status",
]

ENCODINGS = ("ros1", "deli")  # of messages from viewers; in both, a message is the bytes of the value
SUBPROTOCOLS = ("foxglove.sdk.v1", "foxglove.websocket.v1")  # the first that a viewer offers is chosen
MAX_TEXT = 256 << 10  # bytes of one text from a viewer
BATCH = 100  # channels that are advertised in one message, as foxglove's own server does
WARNING, ERROR = 1, 2  # levels of a status
PLAYBACK_STATE = 5  # opcode; only viewers that speak ``foxglove.sdk.v1`` know it

# Operations that need a capability that the server does not have: operation to capability.
UNSUPPORTED = {
    "getParameters": "parameters",
    "setParameters": "parameters",
    "subscribeParameterUpdates": "parametersSubscribe",
    "unsubscribeParameterUpdates": "parametersSubscribe",
    "subscribeConnectionGraph": "connection graph",
    "unsubscribeConnectionGraph": "connection graph",
    "fetchAsset": "assets",
}
_U32 = (1 << 32) - 1
_U64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Pairs of the viewer's id of a subscription and a channel."""

    subscriptions: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The viewer's ids of subscriptions."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Advertised:
    """A channel on which a viewer will publish."""

    id: int
    topic: str
    encoding: str
    schema_name: str


@dataclass(frozen=True, slots=True)
class Advertise:
    """Channels on which a viewer will publish."""

    channels: tuple[Advertised, ...]


@dataclass(frozen=True, slots=True)
class Unadvertise:
    """Channels on which a viewer stops publishing."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsupported:
    """An operation that needs a capability which the server does not have."""

    capability: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message on a viewer's own channel; its bytes begin at `MESSAGE_HEAD`."""

    channel: int


@dataclass(frozen=True, slots=True)
class ServiceCall:
    """A call of a service. The server has no services."""

    service: int
    call: int


Said: TypeAlias = Union[Subscribe, Unsubscribe, Advertise, Unadvertise, Unsupported, Message, ServiceCall]
MESSAGE_HEAD = 5  # bytes before the payload of a viewer's message: opcode and channel


def parse_text(data: bytes) -> Said:
    """Parse a text from a viewer.

    Raises
    ------
    UnicodeDecodeError
        It is not UTF-8.
    ValueError
        The text is no message of the protocol. The text of the error is for the viewer.
    """
    text = data.decode()
    if len(data) > MAX_TEXT:
        raise ValueError(f"a text of more than {MAX_TEXT} bytes")
    try:
        said = json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if not isinstance(said, dict):
        raise ValueError("a message is a JSON object")
    operation = _field(said, "op", str)
    if operation == "subscribe":
        found = (_object(each) for each in _list(said, "subscriptions"))
        return Subscribe(
            tuple((_number(each, "id", _U32), _number(each, "channelId", _U64)) for each in found)
        )
    if operation == "unsubscribe":
        return Unsubscribe(tuple(_numbers(said, "subscriptionIds")))
    if operation == "advertise":
        return Advertise(tuple(_advertised(_object(each)) for each in _list(said, "channels")))
    if operation == "unadvertise":
        return Unadvertise(tuple(_numbers(said, "channelIds")))
    if operation in UNSUPPORTED:
        return Unsupported(UNSUPPORTED[operation])
    raise ValueError(f"unknown operation {_shown(operation)}")


def parse_binary(data: bytes) -> Said | None:
    """Parse a binary message from a viewer; None: it is empty.

    Raises
    ------
    ValueError
        The data are no message of the protocol. The text of the error is for the viewer.
    """
    if not data:
        return None
    try:
        match data[0]:
            case 1:
                return Message(*struct.unpack_from("<I", data, 1))
            case 2:
                return ServiceCall(*struct.unpack_from("<II", data, 1))
    except struct.error:
        raise ValueError("Buffer too short") from None
    raise ValueError(f"Unknown binary opcode {data[0]}")


def _advertised(said: dict[str, Any]) -> Advertised:
    return Advertised(
        _number(said, "id", _U32),
        _field(said, "topic", str),
        _field(said, "encoding", str),
        _field(said, "schemaName", str),
    )


def _field(said: Mapping[str, Any], name: str, kind: type) -> Any:
    if name not in said:
        raise ValueError(f"missing field `{name}`")
    if not isinstance(said[name], kind):
        raise ValueError(f"`{name}` is {_shown(said[name])}, which has the wrong type")
    return said[name]


def _list(said: Mapping[str, Any], name: str) -> list[Any]:
    found: list[Any] = _field(said, name, list)
    return found


def _object(each: Any) -> dict[str, Any]:
    if not isinstance(each, dict):
        raise ValueError(f"{_shown(each)} is no JSON object")
    return each


def _number(said: Mapping[str, Any], name: str, most: int) -> int:
    if name not in said:
        raise ValueError(f"missing field `{name}`")
    return _in_range(said[name], name, most)


def _numbers(said: Mapping[str, Any], name: str) -> Iterator[int]:
    return (_in_range(each, name, _U32) for each in _list(said, name))


def _in_range(value: Any, name: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"`{name}` is {_shown(value)}, expected an integer from 0 to {most}")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of many digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- messages of the server ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Described:
    """A channel, as it is advertised to viewers."""

    id: int
    topic: str
    encoding: str
    schema_name: str
    schema_encoding: str
    schema: str


def _json(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def server_info(
    name: str,
    *,
    capabilities: Iterable[str],
    encodings: Iterable[str],
    metadata: Mapping[str, str],
    session: str,
    data_range: tuple[int, int] | None = None,
) -> bytes:
    """The first text, `serverInfo`. The range is that of a replay, in ns since the epoch."""
    said: dict[str, Any] = {"op": "serverInfo", "name": name, "capabilities": [*capabilities]}
    if found := [*encodings]:
        said["supportedEncodings"] = found
    said |= {"metadata": dict(metadata), "sessionId": session}
    if data_range is not None:
        for key, at in zip(("dataStartTime", "dataEndTime"), data_range, strict=True):
            said[key] = {"sec": min(at // 10**9, _U32), "nsec": at % 10**9}
    return _json(said)


def advertise(channels: Iterable[Described]) -> list[bytes]:
    """Texts that advertise channels, at most 100 in each."""
    found = [
        {
            "id": each.id,
            "topic": each.topic,
            "encoding": each.encoding,
            "schemaName": each.schema_name,
            "schemaEncoding": each.schema_encoding,
            "schema": each.schema,
        }
        for each in channels
    ]
    return [
        _json({"op": "advertise", "channels": found[start : start + BATCH]})
        for start in range(0, len(found), BATCH)
    ]


def status(level: int, message: str) -> bytes:
    """A status, which the viewer shows to its user."""
    return _json({"op": "status", "level": level, "message": message})


def service_failure(call: ServiceCall) -> bytes:
    """The answer to every call of a service."""
    return _json(
        {
            "op": "serviceCallFailure",
            "serviceId": call.service,
            "callId": call.call,
            "message": "Server does not support services",
        }
    )
