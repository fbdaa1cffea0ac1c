"""origins.py: which pages may connect."""

from __future__ import annotations

import pytest

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
