"""Why a client has disconnected: the second argument of ``on_disconnect``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Cause", "Departure"]

Cause: TypeAlias = Literal[
    "left",
    "lost",
    "too slow",
    "no progress",
    "keepalive",
    "too much input",
    "protocol error",
    "refused",
    "closed",
    "server closed",
]


@dataclass(frozen=True, slots=True)
class Departure:
    """Why a client has disconnected; the first cause that this end observed.

    Attributes
    ----------
    cause : str
        ==================  ===================================================================
        ``left``            it closed the connection: a CLOSE frame, over TCP the end of stream
        ``lost``            the connection broke: a reset, or an end without notice
        ``too slow``        it was more than ``max_backlog`` behind
        ``no progress``     it was behind and took no byte for ``progress_timeout``
        ``keepalive``       no sign of life for ``ping_interval`` and ``ping_timeout``
        ``too much input``  it sent most of what ``max_inbound`` bounds, and it was not received
        ``protocol error``  it broke the protocol, or sent more than ``max_message_size``
        ``refused``         the schemas do not match, so its values cannot be read (4400)
        ``closed``          by `Peer.close`
        ``server closed``   the server was closed
        ==================  ===================================================================
    code : int or None
        Close code (RFC 6455 section 7.4) of the CLOSE frame that ended it, received or sent; 1005
        for one without a code. None where there was none: an abrupt end, and always over TCP.
    reason : str
        The reason in the CLOSE frame, or a description of what happened, with bytes and seconds.
    queued_bytes : int
        Bytes that waited for it in this process when it disconnected: queued messages with their framing, and
        the bytes in its transport. Bytes in the kernel's socket buffer are not counted.
    """

    cause: Cause
    code: int | None
    reason: str
    queued_bytes: int
