"""The exceptions: one tree, the texts of the Rust crates, pickle and copy. Mirrors `error_tests` of Rust."""

from __future__ import annotations

import copy
import errno
import pickle

import pytest

import deli_com
from deli_com import (
    BacklogFull,
    ComError,
    ConnectionClosed,
    DecodeError,
    EncodeError,
    InvalidBool,
    InvalidUtf8,
    InvalidVariant,
    IoError,
    MessageTooLarge,
    NotConnected,
    RecordingError,
    SchemaMismatch,
    UnexpectedEof,
    UnknownVariant,
    WebSocketError,
    codec,
)
from deli_com.backplane import Unreachable

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
LATE = TimeoutError(errno.ETIMEDOUT, "Connection timed out")

# error, its other bases, its text, its attributes
ALL: list[tuple[ComError, tuple[type, ...], str, dict[str, object]]] = [
    (
        IoError.of(OSError(errno.EADDRINUSE, "Address already in use"), "bind 127.0.0.1:80"),
        (OSError,),
        f"io error: [Errno {errno.EADDRINUSE}] bind 127.0.0.1:80: Address already in use",
        {"errno": errno.EADDRINUSE},
    ),
    (
        IoError.of(REFUSED, "connect to 127.0.0.1:9"),
        (OSError, ConnectionRefusedError),
        f"io error: [Errno {errno.ECONNREFUSED}] connect to 127.0.0.1:9: Connection refused",
        {"errno": errno.ECONNREFUSED},
    ),
    (
        IoError.of(LATE, "connect to 127.0.0.1:9"),
        (OSError, TimeoutError),
        f"io error: [Errno {errno.ETIMEDOUT}] connect to 127.0.0.1:9: Connection timed out",
        {"errno": errno.ETIMEDOUT},
    ),
    (Unreachable("no server is connected"), (), "no server is connected", {}),
    (IoError("no errno"), (OSError,), "io error: no errno", {"errno": None}),
    (ConnectionClosed(), (ConnectionError, OSError), "connection closed", {"code": None, "reason": ""}),
    (
        ConnectionClosed(1001, "the server is closing"),
        (ConnectionError, OSError),
        "connection closed (1001): the server is closing",
        {"code": 1001, "reason": "the server is closing"},
    ),
    (ConnectionClosed(1000), (ConnectionError,), "connection closed (1000)", {"code": 1000, "reason": ""}),
    (ConnectionClosed(None, "reset"), (ConnectionError,), "connection closed: reset", {"code": None}),
    (
        NotConnected("the connection was lost 1.0 s ago"),
        (ConnectionError, OSError),
        "not connected: the connection was lost 1.0 s ago",
        {"reason": "the connection was lost 1.0 s ago"},
    ),
    (NotConnected(), (ConnectionError,), "not connected", {"reason": ""}),
    (
        MessageTooLarge(70, 64),
        (ValueError,),
        "message too large: 70 bytes (limit 64)",
        {"size": 70, "limit": 64},
    ),
    (WebSocketError("not HTTP"), (), "websocket error: not HTTP", {"message": "not HTTP", "status": None}),
    (WebSocketError("HTTP 404", 404), (), "websocket error: HTTP 404", {"status": 404}),
    (
        RecordingError("run.mcap", 72, "the chunk is cut off"),
        (ValueError,),
        "recording error: run.mcap, byte 72: the chunk is cut off",
        {"path": "run.mcap", "offset": 72, "reason": "the chunk is cut off"},
    ),
    (
        RecordingError("run.mcap", None, "no schema"),
        (ValueError,),
        "recording error: run.mcap: no schema",
        {"offset": None},
    ),
    (
        SchemaMismatch("Point", ["x  f32 here, f64 there", "- y  f32, only here"]),
        (ValueError,),
        "another Point is sent here:\n  x  f32 here, f64 there\n- y  f32, only here",
        {"name": "Point", "differences": ["x  f32 here, f64 there", "- y  f32, only here"]},
    ),
    (
        UnknownVariant(9, 0, "Shape"),
        (ValueError, InvalidVariant),
        "decode error: invalid enum variant: 9 (byte 0, Shape)",
        {"index": 9, "offset": 0, "path": "Shape"},
    ),
    (
        BacklogFull(67, 64),
        (BufferError,),
        "backlog full: 67 bytes are queued, limit 64",
        {"queued": 67, "limit": 64},
    ),
    (
        EncodeError("300 does not fit u8 (0..255)", "Telemetry.points[3].x"),
        (ValueError,),
        "encode error: Telemetry.points[3].x: 300 does not fit u8 (0..255)",
        {"detail": "300 does not fit u8 (0..255)", "path": "Telemetry.points[3].x"},
    ),
    (EncodeError("not a str"), (ValueError,), "encode error: not a str", {"path": ""}),
    (
        DecodeError("too deep", 7, "Tree.left"),
        (ValueError,),
        "decode error: too deep (byte 7, Tree.left)",
        {"detail": "too deep", "offset": 7, "path": "Tree.left"},
    ),
    (
        UnexpectedEof(3),
        (DecodeError, ValueError),
        "decode error: unexpected end of buffer (byte 3)",
        {"detail": "unexpected end of buffer", "offset": 3, "path": ""},
    ),
    (
        InvalidUtf8(4, "Name.first"),
        (DecodeError,),
        "decode error: invalid UTF-8 in string (byte 4, Name.first)",
        {"offset": 4, "path": "Name.first"},
    ),
    (
        InvalidBool(2, 9, "Flags.on"),
        (DecodeError,),
        "decode error: invalid bool value: 2 (byte 9, Flags.on)",
        {"value": 2, "offset": 9, "path": "Flags.on"},
    ),
    (
        InvalidVariant(99),
        (DecodeError,),
        "decode error: invalid enum variant: 99 (byte 0)",
        {"index": 99, "offset": 0},
    ),
]
each = pytest.mark.parametrize(
    ("error", "bases", "text", "attributes"),
    ALL,
    ids=[f"{type(row[0]).__name__}-{n}" for n, row in enumerate(ALL)],
)


@each
class TestEach:
    def test_bases(
        self, error: ComError, bases: tuple[type, ...], text: str, attributes: dict[str, object]
    ) -> None:
        """It is caught as a ComError, and as what Python has for such things."""
        for base in (ComError, *bases):
            assert isinstance(error, base)

    def test_text(
        self, error: ComError, bases: tuple[type, ...], text: str, attributes: dict[str, object]
    ) -> None:
        """Begins as upstream's does."""
        assert str(error) == text

    def test_attributes(
        self, error: ComError, bases: tuple[type, ...], text: str, attributes: dict[str, object]
    ) -> None:
        assert {name: getattr(error, name) for name in attributes} == attributes

    @pytest.mark.parametrize("way", ["copy", "deepcopy", *map(str, range(pickle.HIGHEST_PROTOCOL + 1))])
    def test_it_survives_pickle_and_copy(
        self, error: ComError, bases: tuple[type, ...], text: str, attributes: dict[str, object], way: str
    ) -> None:
        """Class, text, attributes and notes; as raised in another process, say."""
        noted = copy.copy(error)
        noted.add_note("seen in worker 3")
        if way == "copy":
            other = copy.copy(noted)
        elif way == "deepcopy":
            other = copy.deepcopy(noted)
        else:
            other = pickle.loads(pickle.dumps(noted, int(way)))
        assert type(other) is type(error)
        assert str(other) == text
        assert {name: getattr(other, name) for name in attributes} == attributes
        assert other.__notes__ == ["seen in worker 3"]
        assert not hasattr(error, "__notes__")


class TestTree:
    def test_every_public_error_is_a_com_error(self) -> None:
        """One `except ComError` catches all that the library raises on purpose."""
        public = [getattr(deli_com, name) for name in dir(deli_com) if not name.startswith("_")]
        errors = {thing for thing in public if isinstance(thing, type) and issubclass(thing, BaseException)}
        assert errors == {ComError, *(type(row[0]) for row in ALL)} - {
            type(IoError.of(REFUSED, "")),
            type(IoError.of(LATE, "")),
            Unreachable,  # of deli_com.backplane
        }
        assert all(issubclass(error, ComError) for error in errors)

    def test_each_class_has_an_example_here(self) -> None:
        """So that a new one cannot be forgotten."""

        def below(kind: type) -> set[type]:
            return {kind}.union(*(below(child) for child in kind.__subclasses__()))

        ours = {kind for kind in below(ComError) if kind.__module__.startswith("deli_com")}
        assert ours == {ComError, *(type(row[0]) for row in ALL)}

    def test_ends_and_refusals_are_told_apart(self) -> None:
        """A closed connection is no failed system call of ours, and the other way round."""
        assert not issubclass(ConnectionClosed, IoError)
        assert not issubclass(IoError, ConnectionError)
        assert not isinstance(IoError.of(REFUSED, ""), TimeoutError)
        assert not isinstance(IoError.of(LATE, ""), ConnectionError)


class TestConversions:
    @pytest.mark.parametrize(
        ("cause", "also"),
        [
            (REFUSED, ConnectionRefusedError),
            (LATE, TimeoutError),
            (TimeoutError(), TimeoutError),
            (PermissionError(errno.EACCES, "Permission denied"), OSError),
            (OSError("only words"), OSError),
            (OSError(), OSError),
        ],
    )
    def test_io_error_of(self, cause: OSError, also: type) -> None:
        """Keeps errno, says what was being done, picks the class that Python's own error has."""
        error = IoError.of(cause, "doing something")
        assert isinstance(error, IoError)
        assert isinstance(error, also)
        assert "doing something: " in str(error)
        assert str(error).startswith("io error: ")
        if cause.errno is not None:
            assert error.errno == cause.errno
            assert cause.strerror in str(error)

    def test_an_out_of_time_has_an_errno(self) -> None:
        assert IoError.of(TimeoutError(), "waiting").errno == errno.ETIMEDOUT

    @pytest.mark.parametrize(
        ("kind", "data", "error"),
        [
            (str, b"\x05\0\0\0ab", UnexpectedEof),
            (str, b"\x01\0\0\0\xff", InvalidUtf8),
            (bool, b"\x02", InvalidBool),
            (bytes, b"\x01", UnexpectedEof),
        ],
    )
    def test_decoding_raises_them(self, kind: type, data: bytes, error: type[DecodeError]) -> None:
        with pytest.raises(error) as caught:
            codec(kind).from_bytes(data)
        assert 0 <= caught.value.offset <= len(data)

    def test_encoding_raises_them(self) -> None:
        with pytest.raises(EncodeError) as caught:
            codec(deli_com.u8).to_bytes(300)
        assert "300 does not fit u8 (0..255)" in caught.value.detail
