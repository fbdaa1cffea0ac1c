"""net/address.py: valid and invalid addresses, and the errors of binding."""

from __future__ import annotations

import copy
import pickle

import pytest

from deli_com.net.address import Address, Target, parse_address, parse_target, resolve


class TestAddress:
    @pytest.mark.parametrize(
        ("address", "text"),
        [
            (Address("127.0.0.1", 80), "127.0.0.1:80"),
            (Address("::1", 8080), "[::1]:8080"),
            (Address("localhost", 0), "localhost:0"),
            (Address("fe80::1%lo", 1), "[fe80::1%lo]:1"),
        ],
    )
    def test_str_is_what_parse_takes(self, address: Address, text: str) -> None:
        assert str(address) == f"{address}" == text
        assert parse_address(text) == address

    def test_equals_the_plain_tuple(self) -> None:
        address = Address("h", 1)
        assert address == ("h", 1)
        assert pickle.loads(pickle.dumps(address)) == copy.copy(address) == address
        assert type(pickle.loads(pickle.dumps(address))) is Address


class TestParseAddress:
    @pytest.mark.parametrize(
        ("addr", "expected"),
        [
            ("127.0.0.1:9000", ("127.0.0.1", 9000)),
            ("localhost:0", ("localhost", 0)),
            ("[::1]:65535", ("::1", 65535)),
            (("::1", 1), ("::1", 1)),
            (("[::1]", 1), ("::1", 1)),
            (("localhost", 1), ("localhost", 1)),
            (Address("10.0.0.1", 5), ("10.0.0.1", 5)),
            ("bücher.example:80", ("xn--bcher-kva.example", 80)),
            ("a-b.example.:80", ("a-b.example.", 80)),
        ],
    )
    def test_accepts(self, addr: object, expected: tuple[str, int]) -> None:
        parsed = parse_address(addr)  # type: ignore[arg-type]
        assert parsed == expected
        assert type(parsed) is Address

    @pytest.mark.parametrize(
        "addr",
        [
            "",
            ":",
            ":80",
            "localhost",
            "localhost:",
            "localhost:-1",
            "localhost:65536",
            "localhost:99999999999999999999",
            "localhost:+80",
            "localhost:8 0",
            "localhost:٣",  # a digit, but not of ASCII
            "localhost:http",
            "::1:80",
            "[::1]",
            "[::1]:",
            "[::1]80",
            "[localhost]:80",
            "[127.0.0.1]:80",
            "[]:80",
            "a b:80",
            " localhost:80",
            "localhost:80\n",
            "user@localhost:80",
            "localhost/path:80",
            "a..b:80",
            "x" * 64 + ":80",
            "ws://localhost:80",
            ("", 80),
            ("localhost", -1),
            ("localhost", 65536),
            ("localhost", "80"),
            ("localhost", True),
            ("localhost", 80.0),
            ("localhost", None),
            ("localhost", 80, 0, 0),
            ("localhost",),
            (b"localhost", 80),
            ("::g", 80),
            ["localhost", 80],
            b"localhost:80",
            80,
            None,
        ],
    )
    def test_refuses_and_lists_the_forms(self, addr: object) -> None:
        with pytest.raises(ValueError) as caught:
            parse_address(addr)  # type: ignore[arg-type]
        text = str(caught.value)
        for form in ('"host:port"', '"[v6]:port"', "(host, port)", "local_addr()"):
            assert form in text
        assert not isinstance(caught.value, UnicodeError)


class TestParseTarget:
    @pytest.mark.parametrize(
        ("addr", "address", "secure", "resource", "host"),
        [
            ("127.0.0.1:9000", ("127.0.0.1", 9000), False, "/", "127.0.0.1:9000"),
            ("[::1]:80", ("::1", 80), False, "/", "[::1]"),
            ("ws://localhost", ("localhost", 80), False, "/", "localhost"),
            ("ws://localhost:81/", ("localhost", 81), False, "/", "localhost:81"),
            ("wss://Example.ORG", ("example.org", 443), True, "/", "example.org"),
            (
                "wss://example.org:80/a/b?x=1&y=%20",
                ("example.org", 80),
                True,
                "/a/b?x=1&y=%20",
                "example.org:80",
            ),
            ("ws://[::1]:9?q", ("::1", 9), False, "/?q", "[::1]:9"),
            ("ws://h:1/grün", ("h", 1), False, "/gr%C3%BCn", "h:1"),
            ("WS://h:1", ("h", 1), False, "/", "h:1"),
        ],
    )
    def test_accepts(
        self, addr: str, address: tuple[str, int], secure: bool, resource: str, host: str
    ) -> None:
        target = parse_target(addr)
        assert target == Target(Address(*address), secure, resource)
        assert target.host_header == host

    def test_path_and_secure_go_with_an_address(self) -> None:
        assert parse_target("h:1", path="/live?x", secure=True) == Target(Address("h", 1), True, "/live?x")
        assert parse_target("ws://h:1", path="/live") == Target(Address("h", 1), False, "/live")

    @pytest.mark.parametrize(
        "addr",
        [
            "http://localhost:80",
            "://localhost:80",
            "ws://",
            "ws:///path",
            "ws://:80",
            "ws://localhost:",
            "ws://localhost:x",
            "ws://localhost:65536",
            "ws://user@localhost",
            "ws://user:secret@localhost",
            "ws://@localhost",
            "ws://localhost/#top",
            "ws://localhost/#",
            "ws://local host/",
            "ws://localhost/\tpath",
            "ws://localhost/a\r\nX: y",
            "ws://[::1/",
            "ws://[localhost]/",
            "localhost",
            None,
        ],
    )
    def test_refuses_and_lists_the_forms(self, addr: object) -> None:
        with pytest.raises(ValueError) as caught:
            parse_target(addr)  # type: ignore[arg-type]
        for form in ('"host:port"', '"[v6]:port"', "(host, port)", '"ws://"', '"wss://"'):
            assert form in str(caught.value)

    @pytest.mark.parametrize("addr", ["h:0", ("h", 0), "ws://h:0"])
    def test_port_0_is_for_binding_only(self, addr: object) -> None:
        with pytest.raises(ValueError, match="port 0"):
            parse_target(addr)  # type: ignore[arg-type]

    @pytest.mark.parametrize("path", ["live", "", "/a#b"])
    def test_bad_path(self, path: str) -> None:
        with pytest.raises(ValueError, match="path"):
            parse_target("h:1", path=path)

    def test_two_paths(self) -> None:
        with pytest.raises(ValueError, match="two paths"):
            parse_target("ws://h/a", path="/b")

    def test_secure_and_ws_contradict(self) -> None:
        with pytest.raises(ValueError, match="not a wss"):
            parse_target("ws://h", secure=True)


class TestResolve:
    async def test_literals_need_no_resolver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import asyncio

        async def fail(*args: object, **kwargs: object) -> None:
            raise AssertionError("looked up a literal")

        if isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
        assert (await resolve(Address("::1", 5)))[0][4][:2] == ("::1", 5)
        assert (await resolve(Address("127.0.0.1", 5)))[0][4] == ("127.0.0.1", 5)
