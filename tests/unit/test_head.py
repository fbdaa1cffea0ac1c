"""ws/head.py: request and response heads, valid ones and every kind of invalid one."""

from __future__ import annotations

import helpers
import pytest
from multidict import CIMultiDict

from deli_com.ws.head import (
    MAX_HEAD_BYTES,
    HeadReader,
    Refusal,
    RequestHead,
    accept_token,
    checked_headers,
    checked_subprotocols,
    parse_request,
    parse_response,
    tokens,
)

GOOD = {
    "Host": "h",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request(line: str = "GET / HTTP/1.1", more: str = "", **changes: str | None) -> bytes:
    """A good request but for the changes: header names with _ for -, None to leave one out."""
    headers = dict(GOOD)
    for name, value in changes.items():
        key = next(
            (k for k in headers if k.lower() == name.replace("_", "-").lower()), name.replace("_", "-")
        )
        if value is None:
            del headers[key]
        else:
            headers[key] = value
    return (line + "".join(f"\r\n{k}: {v}" for k, v in headers.items()) + more).encode("latin-1")


def assert_refused(raw: bytes, status: int, word: str = "") -> Refusal:
    answer = parse_request(raw)
    assert isinstance(answer, Refusal), f"accepted {raw!r}"
    assert answer.status == status
    assert word in answer.text
    return answer


class TestParseRequest:
    @pytest.mark.parametrize("head", [helpers.FIREFOX_HEAD, helpers.CHROME_HEAD, helpers.PLAIN_HEAD])
    def test_browsers(self, head: bytes) -> None:
        answer = parse_request(head[:-4])
        assert isinstance(answer, RequestHead)
        assert (answer.path, answer.query, answer.key) == ("/", "", GOOD["Sec-WebSocket-Key"])

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("/", "/", ""),
            ("/a/b%20c?x=1&y=?", "/a/b%20c", "x=1&y=?"),
            ("/?", "/", ""),
            ("http://h:80/a?b", "/a", "b"),
            ("http://h", "/", ""),
            ("HTTP://h?b", "/", "b"),
            ("//twice", "//twice", ""),
            ("/?next=http://other/c", "/", "next=http://other/c"),
            ("/go/https://other/c", "/go/https://other/c", ""),
            ("http://h/a?next=http://other/c", "/a", "next=http://other/c"),
        ],
    )
    def test_target(self, target: str, path: str, query: str) -> None:
        answer = parse_request(request(f"GET {target} HTTP/1.1"))
        assert isinstance(answer, RequestHead)
        assert (answer.path, answer.query) == (path, query)

    @pytest.mark.parametrize(
        "value", ["Upgrade", "keep-alive, Upgrade", "UPGRADE ,\tkeep-alive", ",,upgrade,"]
    )
    def test_connection_is_a_list(self, value: str) -> None:
        assert isinstance(parse_request(request(Connection=value)), RequestHead)

    def test_a_list_over_two_lines(self) -> None:
        raw = request(Connection="keep-alive", more="\r\nconnection: upgrade")
        assert isinstance(parse_request(raw), RequestHead)

    @pytest.mark.parametrize(
        ("raw", "status"),
        [
            (request("GET / HTTP/1.0"), 505),
            (request("GET / HTTP/2.0"), 505),
            (request("POST / HTTP/1.1"), 405),
            (request("HEAD / HTTP/1.1"), 405),
            (request("get / HTTP/1.1"), 405),
            (request("GET /"), 400),
            (request("GET  / HTTP/1.1"), 400),
            (request("GET / HTTP/1.1 "), 400),
            (request("GET / http/1.1"), 400),
            (request("GET nowhere HTTP/1.1"), 400),
            (request("GET * HTTP/1.1"), 400),
            (request("GET ? HTTP/1.1"), 400),
            (request("GET /\x01 HTTP/1.1"), 400),
            (request("GET /\xff HTTP/1.1"), 400),
            (request("GET /a#b HTTP/1.1"), 400),
            (request(Upgrade=None), 426),
            (request(Upgrade="h2c"), 426),
            (request(Connection=None), 400),
            (request(Connection="keep-alive"), 400),
            (request(Connection="not-upgrade"), 400),
            (request(Host=None), 400),
            (request(more="\r\nHost: other"), 400),
            (request(Sec_WebSocket_Version=None), 426),
            (request(Sec_WebSocket_Version="8"), 426),
            (request(Sec_WebSocket_Version="14"), 426),
            (request(more="\r\nSec-WebSocket-Version: 13"), 426),
            (request(Sec_WebSocket_Key=None), 400),
            (request(Sec_WebSocket_Key=""), 400),
            (request(Sec_WebSocket_Key="c2hvcnQ="), 400),
            (request(Sec_WebSocket_Key="not base64 at all!!!!!"), 400),
            (request(Sec_WebSocket_Key="\xe4" * 24), 400),
            (request(more="\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
            (request(more="\r\nno colon"), 400),
            (request(more="\r\n folded: line"), 400),
            (request(more="\r\nbad name: x"), 400),
            (request(more="\r\nX: a\x00b"), 400),
            (request(more="\r\nX: a\nY: b"), 400),
            (request(more="\r\nContent-Length: 5"), 400),
            (request(more="\r\nTransfer-Encoding: chunked"), 400),
            (request(more="\r\nX: y" * 124), 431),
            (b"", 400),
            (b"\r\n", 400),
        ],
    )
    def test_refused(self, raw: bytes, status: int) -> None:
        assert_refused(raw, status)

    def test_most_headers(self) -> None:
        assert isinstance(parse_request(request(more="\r\nX: y" * 123)), RequestHead)

    def test_refusals_say_what_would_do(self) -> None:
        assert ("Sec-WebSocket-Version", "13") in assert_refused(
            request(Sec_WebSocket_Version="8"), 426, "13"
        ).headers
        assert ("Upgrade", "websocket") in assert_refused(
            request(Upgrade=None), 426, "WebSocket server"
        ).headers
        assert ("Allow", "GET") in assert_refused(request("PUT / HTTP/1.1"), 405, "PUT").headers

    def test_the_text_repeats_little_of_the_request(self) -> None:
        for raw in (
            request("GET /" + "a b" * 4000 + " HTTP/1.1"),
            request(Upgrade="x" * 9000),
            request(Sec_WebSocket_Version="9" * 9000),
            request(more="\r\n" + "x" * 9000),
        ):
            answer = parse_request(raw)
            assert isinstance(answer, Refusal)
            assert len(answer.to_bytes()) < 700

    def test_every_byte_changed_never_raises(self) -> None:
        """Whatever one byte becomes, the answer is a head or a refusal."""
        good = helpers.FIREFOX_HEAD[:-4]
        for place in range(len(good)):
            for value in (0, 10, 13, 32, 58, 127, 255):
                raw = bytearray(good)
                raw[place] = value
                assert isinstance(parse_request(bytes(raw)), (RequestHead, Refusal))


class TestRefusal:
    def test_bytes(self) -> None:
        assert Refusal(404, "nothing at '/ä'", (("X-A", "b"),)).to_bytes() == (
            b"HTTP/1.1 404 Not Found\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 17\r\n"
            b"Connection: close\r\n"
            b"X-A: b\r\n"
            b"\r\n"
            b"nothing at '/\xc3\xa4'\n"
        )

    def test_a_status_without_a_name(self) -> None:
        assert Refusal(499, "x").to_bytes().startswith(b"HTTP/1.1 499 Refused\r\n")

    @pytest.mark.parametrize("status", [101, 200, 302, 600])
    def test_only_errors(self, status: int) -> None:
        with pytest.raises(ValueError, match="400 to 599"):
            Refusal(status, "x")

    def test_headers_cannot_break_the_head(self) -> None:
        with pytest.raises(ValueError, match="not allowed"):
            Refusal(400, "x", (("A", "b\r\nC: d"),))


class TestHeadReader:
    def test_split_anywhere(self) -> None:
        data = helpers.PLAIN_HEAD + b"rest\r\n\r\nmore"
        for place in range(len(data) + 1):
            reader = HeadReader()
            first = reader.feed(memoryview(data[:place]))
            assert first == (place >= len(helpers.PLAIN_HEAD))
            assert reader.feed(memoryview(data[place:]))
            assert reader.head == helpers.PLAIN_HEAD[:-4]
            assert reader.rest == b"rest\r\n\r\nmore"

    @pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
    def test_limit(self, piece: int) -> None:
        """16 KiB with the empty line are good, one byte more is not, with or without an end."""

        def read(data: bytes) -> HeadReader:
            reader = HeadReader()
            for start in range(0, len(data), piece):
                if reader.feed(memoryview(data[start : start + piece])) or reader.too_long:
                    break
            return reader

        good = read(b"x" * (MAX_HEAD_BYTES - 4) + b"\r\n\r\n")
        assert not good.too_long
        assert len(good.head) == MAX_HEAD_BYTES - 4
        assert read(b"x" * (MAX_HEAD_BYTES - 3) + b"\r\n\r\n").too_long
        endless = read(b"x" * (1 << 20))
        assert endless.too_long
        assert len(endless.data) <= MAX_HEAD_BYTES + piece


class TestParseResponse:
    def test_good(self) -> None:
        head = parse_response(b"HTTP/1.1 101 Switching Protocols\r\nA: b \r\na:\tc\r\nEmpty:")
        assert (head.minor, head.status, head.phrase) == (1, 101, "Switching Protocols")
        assert head.headers.getall("A") == ["b", "c"]
        assert head.headers["Empty"] == ""

    @pytest.mark.parametrize("line", [b"HTTP/1.1 404", b"HTTP/1.0 404 ", b"HTTP/1.1 599 \xff"])
    def test_odd_but_good(self, line: bytes) -> None:
        assert parse_response(line).status in (404, 599)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"SSH-2.0-x",
            b"HTTP/2 200",
            b"HTTP/1.1 20",
            b"HTTP/1.1 2000 x",
            b"HTTP/1.1  200 x",
            b"HTTP/1.1 900 x",
            b"HTTP/1.1 101 x\r\nno colon",
            b"HTTP/1.1 101 x\r\n folded: x",
            b"HTTP/1.1 101 x\r\nname : x",
            b"HTTP/1.1 101 x\r\nA: \x00",
            b"HTTP/1.1 101 x\r\nA: b\nC: d",
            b"HTTP/1.1 101 x" + b"\r\nA: b" * 129,
        ],
    )
    def test_bad(self, raw: bytes) -> None:
        with pytest.raises(ValueError):
            parse_response(raw)


def test_accept_token() -> None:
    """The example of RFC 6455 section 1.3."""
    assert accept_token("dGhlIHNhbXBsZSBub25jZQ==") == helpers.ACCEPT_TOKEN.decode()


def test_tokens() -> None:
    headers: CIMultiDict[str] = CIMultiDict([("A", "x, Y ,,"), ("a", "\tz")])
    assert tokens(headers, "A") == ["x", "y", "z"]
    assert tokens(headers, "B") == []


class TestCheckedHeaders:
    def test_mapping_or_pairs(self) -> None:
        assert checked_headers({"A": "b"}) == checked_headers([("A", "b")]) == [("A", "b")]
        assert checked_headers(None) == []

    @pytest.mark.parametrize(
        "pair", [("A", "b\r\nC: d"), ("A b", "c"), ("", "c"), ("A:", "c"), ("A", "\u20ac"), ("A", "x\x00")]
    )
    def test_what_breaks_a_head(self, pair: tuple[str, str]) -> None:
        with pytest.raises(ValueError, match="not allowed"):
            checked_headers([pair])

    @pytest.mark.parametrize("name", ["Connection", "sec-websocket-key", "Sec-WebSocket-Extensions"])
    def test_what_is_ours(self, name: str) -> None:
        with pytest.raises(ValueError, match="belongs to the handshake"):
            checked_headers({name: "x"})

    def test_types(self) -> None:
        with pytest.raises(TypeError):
            checked_headers([("A", 1)])  # type: ignore[list-item]


def test_checked_subprotocols() -> None:
    assert checked_subprotocols(["a", "b.v1"]) == ("a", "b.v1")
    for bad in (["a b"], ["a,b"], [""], ["a\r\n"], [1]):
        with pytest.raises(ValueError, match=r"subprotocols: .* is none, expected a token"):
            checked_subprotocols(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        checked_subprotocols("chat")
