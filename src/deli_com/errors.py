"""All exceptions of the library, in one tree under `ComError`.

::

    ComError
    ├── IoError (also OSError) ── a timeout: also TimeoutError; refused: also ConnectionRefusedError
    ├── ConnectionClosed (also ConnectionError)
    ├── NotConnected (also ConnectionError)
    ├── MessageTooLarge (also ValueError)
    ├── WebSocketError
    ├── BacklogFull (also BufferError)
    ├── RecordingError (also ValueError)
    ├── SchemaMismatch (also ValueError)
    ├── EncodeError (also ValueError)
    └── DecodeError (also ValueError)
        ├── UnexpectedEof, InvalidUtf8, InvalidBool
        └── InvalidVariant
            └── UnknownVariant

The texts begin like those of the Rust crates. All exceptions survive ``pickle`` and ``copy``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "BacklogFull",
    "ComError",
    "ConnectionClosed",
    "DecodeError",
    "EncodeError",
    "InvalidBool",
    "InvalidUtf8",
    "InvalidVariant",
    "IoError",
    "MessageTooLarge",
    "NotConnected",
    "RecordingError",
    "SchemaMismatch",
    "UnexpectedEof",
    "UnknownVariant",
    "WebSocketError",
]


class ComError(Exception):
    """Base class of all errors that this library raises deliberately."""


class IoError(ComError, OSError):
    """An operation of the operating system failed or timed out.

    Takes the same arguments as `OSError`: ``(errno, strerror)``, or one message.

    Notes
    -----
    `IoError.of` picks the subclass: a timeout is also a `TimeoutError`, a refused connection also a
    `ConnectionRefusedError`.
    """

    def __str__(self) -> str:
        return f"io error: {OSError.__str__(self)}"

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError's own __reduce__ forgets attributes set later (notes live in __dict__).
        return type(self), self.args, self.__dict__ or None

    @staticmethod
    def of(error: OSError, doing: str) -> IoError:
        """Wrap an `OSError`, and name the operation.

        Parameters
        ----------
        error : OSError
            The caller keeps it as ``__cause__`` by ``raise ... from``.
        doing : str
            For example ``"connect to 127.0.0.1:9"``.
        """
        reason = error.strerror or str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            return IoTimeout(error.errno or 110, f"{doing}: {reason}")
        kind = IoRefused if isinstance(error, ConnectionRefusedError) else IoError
        if error.errno is None:
            return kind(f"{doing}: {reason}")
        return kind(error.errno, f"{doing}: {reason}")


class IoTimeout(IoError, TimeoutError):
    """An `IoError` that is also a `TimeoutError`."""


class IoRefused(IoError, ConnectionRefusedError):
    """An `IoError` that is also a `ConnectionRefusedError`."""


class ConnectionClosed(ComError, ConnectionError):
    """The connection has ended, normally or not.

    Attributes
    ----------
    code : int or None
        Close code of RFC 6455 section 7.4. None if there was no close frame: the connection was lost, or it
        was plain TCP.
    reason : str
        The reason in the close frame, or what this end observed.
    """

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        text = "connection closed"
        if self.code is not None:
            text += f" ({self.code})"
        return f"{text}: {self.reason}" if self.reason else text


class NotConnected(ComError, ConnectionError):
    """A stream has no connection at this moment, so nothing was sent, and nothing is kept.

    Attributes
    ----------
    reason : str
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"not connected: {self.reason}" if self.reason else "not connected"


class MessageTooLarge(ComError, ValueError):
    """A message exceeds ``max_message_size``. Nothing of it was queued.

    Attributes
    ----------
    size, limit : int
        Both in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return f"message too large: {self.size} bytes (limit {self.limit})"


class WebSocketError(ComError):
    """The peer broke the handshake or the WebSocket protocol.

    Attributes
    ----------
    status : int or None
        HTTP status of a refused handshake, else None.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"websocket error: {self.message}"


class BacklogFull(ComError, BufferError):
    """The send queue, or the queue of a recording, is full. This message was not queued.

    Attributes
    ----------
    queued, limit : int
        What is queued, and the limit: both in bytes, or both a number of keys.
    unit : str
        ``"bytes are queued"``; ``"keys are held"`` if the message has a new key and ``max_keys`` keys are
        held already; ``"bytes would wait to be recorded"`` for a recording with ``on_full="raise"``.
    hint : str
        A likely cause in the program, or an empty str.
    """

    def __init__(self, queued: int, limit: int, unit: str = "bytes are queued", hint: str = "") -> None:
        super().__init__(queued, limit, unit, hint)
        self.queued = queued
        self.limit = limit
        self.unit = unit
        self.hint = hint

    def __str__(self) -> str:
        text = f"backlog full: {self.queued} {self.unit}, limit {self.limit}"
        return f"{text}; {self.hint}" if self.hint else text


class RecordingError(ComError, ValueError):
    """A recording cannot be read at some place: it is no MCAP file, it is damaged, or a message is no value.

    If a message is no value of its type, ``__cause__`` is the `DecodeError`.

    Attributes
    ----------
    path : str
        The file.
    offset : int or None
        Byte of the file at which the unreadable part begins, a record or a chunk; None if it is not known.
    reason : str
    """

    def __init__(self, path: str, offset: int | None, reason: str) -> None:
        super().__init__(path, offset, reason)
        self.path = path
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        place = "" if self.offset is None else f", byte {self.offset}"
        return f"recording error: {self.path}{place}: {self.reason}"


class SchemaMismatch(ComError, ValueError):
    """The schemas of writer and reader differ, and the writer's values cannot be read as the reader's type.

    Attributes
    ----------
    name : str
        Name of the reader's type.
    differences : list of str
        Every difference that prevents reading, from the reader's side: ``"celsius  f32 here, f64 there"``.
        Entries that begin with ``"- "`` exist only in the reader's type.
    title : str
        First line of the error's text.
    """

    def __init__(self, name: str, differences: Iterable[str] = (), title: str = "") -> None:
        self.name = name
        self.differences = list(differences)
        self.title = title or f"another {name} is sent here"
        super().__init__(name, self.differences, self.title)

    def __str__(self) -> str:
        lines = [line if line[:2] in ("- ", "+ ") else f"  {line}" for line in self.differences]
        return "\n".join([f"{self.title}:" if lines else self.title, *lines])


class EncodeError(ComError, ValueError):
    """A value does not fit its declared type. Nothing was written.

    Attributes
    ----------
    detail : str
        The value and what is expected, for example ``"300 does not fit u8 (0..255)"``.
    path : str
        Place in the value, for example ``"Telemetry.points[3].x"``.
    """

    def __init__(self, detail: str, path: str = "") -> None:
        super().__init__(detail, path)
        self.detail = detail
        self.path = path

    def __str__(self) -> str:
        return f"encode error: {self.path}: {self.detail}" if self.path else f"encode error: {self.detail}"


class DecodeError(ComError, ValueError):
    """The bytes are not a value of the expected type.

    Attributes
    ----------
    detail : str
        The text of the Rust crates, for example ``"unexpected end of buffer"``.
    offset : int
        Place in the input, in bytes.
    path : str
        Place in the type, for example ``"Telemetry.points[3].x"``.
    """

    def __init__(self, detail: str, offset: int = 0, path: str = "") -> None:
        super().__init__(detail, offset, path)
        self.detail = detail
        self.offset = offset
        self.path = path

    def __str__(self) -> str:
        where = f" (byte {self.offset}, {self.path})" if self.path else f" (byte {self.offset})"
        return f"decode error: {self.detail}{where}"


class UnexpectedEof(DecodeError):
    """The input ends inside the value."""

    def __init__(self, offset: int = 0, path: str = "") -> None:
        super().__init__("unexpected end of buffer", offset, path)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.offset, self.path), self.__dict__ or None


class InvalidUtf8(DecodeError):
    """A string is not strict UTF-8."""

    def __init__(self, offset: int = 0, path: str = "") -> None:
        super().__init__("invalid UTF-8 in string", offset, path)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.offset, self.path), self.__dict__ or None


class InvalidBool(DecodeError):
    """A bool is neither 0 nor 1.

    Attributes
    ----------
    value : int
        The byte that was found, 2 to 255.
    """

    def __init__(self, value: int, offset: int = 0, path: str = "") -> None:
        super().__init__(f"invalid bool value: {value}", offset, path)
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.value, self.offset, self.path), self.__dict__ or None


class InvalidVariant(DecodeError):
    """No variant or member has this index.

    Attributes
    ----------
    index : int
        The u32 that was found.
    """

    def __init__(self, index: int, offset: int = 0, path: str = "") -> None:
        super().__init__(f"invalid enum variant: {index}", offset, path)
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.index, self.offset, self.path), self.__dict__ or None


class UnknownVariant(InvalidVariant):
    """The message is of a variant (or is a member) that the writer's schema has and the reader's type lacks.

    Only ``codec(T).reading(writer)`` raises it. In all other respects the message is a value of the writer's
    type.
    """
