"""ws/origins.py: which pages may connect."""

from __future__ import annotations

import re

import pytest

from deli_com import WsServer, u32
from deli_com.ws.origins import origin_allowed


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "example.com"),
        ("https://example.com:8443", "example.com:9000"),
        ("https://EXAMPLE.com", "example.COM:1"),
        ("https://example.com", "example.com.:1"),
        ("http://10.0.0.7:3000", "10.0.0.7:8080"),
        ("http://[fd00::1]:3000", "[fd00::1]:8080"),
        ("http://localhost:3000", "127.0.0.1:8080"),
        ("http://127.0.0.1:3000", "localhost:8080"),
        ("http://[::1]:3000", "localhost:8080"),
        ("http://app.localhost:3000", "127.8.8.8:8080"),
        ("http://localhost", "[::ffff:127.0.0.1]:80"),
    ],
)
def test_allowed_without_configuration(origin: str, host: str) -> None:
    """The same host on any port, and this machine to this machine."""
    assert origin_allowed(origin, host, None)
    assert origin_allowed(origin, host, ["https://other.example"])


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "example.com"),
        ("null", "null"),
        ("", "example.com"),
        ("", ""),
        ("https://evil.example", "example.com"),
        ("https://evil.example", "localhost:80"),
        ("https://sub.example.com", "example.com"),
        ("https://example.com.evil.example", "example.com"),
        ("https://localhost.evil.example", "localhost"),
        ("https://evil.example", "evil.example@localhost"),
        ("https://127.0.0.1.evil.example", "127.0.0.1"),
        ("http://localhost:3000", "10.0.0.7"),
        ("http://10.0.0.7", "localhost"),
        ("http://[::1", "localhost"),
        ("file://", "localhost"),
        ("chrome-extension://abcdef", "localhost"),
    ],
)
def test_refused_without_configuration(origin: str, host: str) -> None:
    assert not origin_allowed(origin, host, None)
    assert not origin_allowed(origin, host, [])


def test_a_list_adds_to_the_rules() -> None:
    origins = ["https://App.example/", "null"]
    assert origin_allowed("https://app.example", "h", origins)
    assert origin_allowed("null", "h", origins)
    assert not origin_allowed("http://app.example", "h", origins)
    assert not origin_allowed("https://app.example:8443", "h", origins)
    assert origin_allowed("https://anything.example", "h", ["*"])


def test_a_callable_decides_alone() -> None:
    assert origin_allowed("https://a.example", "h", lambda origin: origin.endswith(".example"))
    assert not origin_allowed("http://h", "h", lambda origin: False)


@pytest.mark.parametrize(
    ("listed", "origin"),
    [
        ("https://x.example:443", "https://x.example"),
        ("https://x.example", "https://x.example:443"),
        ("http://x.example:80", "http://x.example"),
        ("HTTPS://X.Example", "https://x.example"),
        ("https://x.example.", "https://x.example"),
        ("https://x.example:08443", "https://x.example:8443"),
        ("https://[FD00::1]:443", "https://[fd00::1]"),
        ("https://*.dash.example", "https://a.dash.example"),
        ("https://*.dash.example", "https://a.b.dash.example:443"),
        ("https://*.dash.example:8443", "https://a.dash.example:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://*.bücher.example", "https://a.xn--bcher-kva.example"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("*", "null"),
    ],
)
def test_what_is_listed_matches(listed: str, origin: str) -> None:
    """Default ports, capital letters and names beyond ASCII are written in several ways."""
    WsServer[u32].bind("127.0.0.1:0", origins=[listed]).close()
    assert origin_allowed(origin, "server.example", [listed])


@pytest.mark.parametrize(
    ("listed", "origin"),
    [
        ("https://*.dash.example", "https://dash.example"),
        ("https://*.dash.example", "https://evildash.example"),
        ("https://*.dash.example", "https://dash.example.evil.example"),
        ("https://*.dash.example", "http://a.dash.example"),
        ("https://*.dash.example", "https://a.dash.example:8443"),
        ("https://*.dash.example", "https://.dash.example"),
        ("https://*.dash.example", "https://evil.example/.dash.example"),
        ("https://*.dash.example", "https://evil.example?.dash.example"),
        ("https://*.dash.example", "https://evil.example#.dash.example"),
        ("https://*.dash.example", "https://evil@evil.dash.example"),
        ("https://x.example:8443", "https://x.example"),
        ("https://x.example:443", "http://x.example:443"),
        ("null", "https://x.example"),
    ],
)
def test_what_is_listed_matches_no_other(listed: str, origin: str) -> None:
    assert not origin_allowed(origin, "server.example", [listed])


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ("dash.example", "write 'https://dash.example'"),
        ("localhost:3000", "write 'https://localhost:3000'"),
        ("", "it is empty"),
        ("https://", "the host is missing"),
        ("https://x/path", "and nothing else"),
        ("https://x?q", "and nothing else"),
        ("https://user@x", "and nothing else"),
        ("https://x:99999", "over 65535"),
        ("https://x:port", "and nothing else"),
        ("wss://x", "write 'https://x'"),
        ("ws://x", "write 'http://x'"),
        ("https://*", "a wildcard is the whole first part"),
        ("https://a*.x", "a wildcard is the whole first part"),
        ("https://a.*.x", "a wildcard is the whole first part"),
        ("https://*.", "a wildcard is the whole first part"),
        ("*.dash.example", "the scheme is missing"),
    ],
)
def test_what_can_match_no_page_is_refused_at_bind(listed: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        WsServer[u32].bind("127.0.0.1:0", origins=["https://good.example", listed])
    assert f"origins has {listed!r} in it" in str(caught.value)
