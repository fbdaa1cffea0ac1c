"""`picows_log`: the one logger that picows gets for all connections."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

__all__ = ["picows_log"]

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class _PicowsLog(_Adapter):
    """An adapter, because picows makes a `logging.Logger` for each connection that is given a plain one.

    What a peer can cause at will (``WS parser error``) is lowered from ERROR to INFO: the connection ends
    with a close code and a reason, and a log that anyone can fill is a fault of its own.
    """

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        level = logging.INFO if isinstance(msg, str) and msg.startswith("WS parser error") else logging.ERROR
        self.log(level, msg, *args, **kwargs)


picows_log: logging.LoggerAdapter[logging.Logger] = _PicowsLog(logging.getLogger("deli_com.picows"), {})
