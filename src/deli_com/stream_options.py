"""The options of `WsClient.stream` and `Client.stream`: which names are known, and the check of `record`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deli_com.net.options import unexpected, wrong

__all__ = ["check_options"]

# What `stream` takes beside the options of `connect`.
OPTIONS = (
    "on_connect",
    "on_disconnect",
    "on_gap",
    "on_reconnect",
    "first_delay",
    "max_delay",
    "terminal",
)


def check_options(
    call: str, options: Mapping[str, Any], known: Iterable[str], more: Iterable[str] = ()
) -> None:
    """Refuse an option that a client's ``connect`` does not have, and a ``record`` of a single file."""
    names = {*known}
    for name in options:
        if name not in names:
            raise unexpected(call, name, [*names, *more, *OPTIONS])
    record = options.get("record")
    if record is not None and not callable(record):
        raise TypeError(wrong("record", record, "a callable that returns a path for each connection"))
