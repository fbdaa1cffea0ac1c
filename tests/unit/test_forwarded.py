"""Which address is the client's behind proxies: X-Forwarded-For and Forwarded."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from deli_com.net.address import Address
from deli_com.ws.forwarded import Asker, Forwarding
from deli_com.ws.head import Refusal

PROXY = Address("127.0.0.1", 40000)
INNER = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8"))


def headers(*pairs: tuple[str, str]) -> CIMultiDict[str]:
    return CIMultiDict([("Host", "stream.example:8443"), *pairs])


def seen(forwarding: Forwarding, *pairs: tuple[str, str], peer: Address | None = PROXY) -> Asker:
    found = forwarding.read(headers(*pairs), peer, False)
    assert isinstance(found, Asker), found
    return found


def remote(*lines: str, **options: Any) -> Address | None:
    """What these lines of X-Forwarded-For make of a request from `PROXY`."""
    return seen(Forwarding(INNER, **options), *[("X-Forwarded-For", line) for line in lines]).remote


class TestXForwardedFor:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (["203.0.113.7"], "203.0.113.7"),
            (["8.8.8.8, 203.0.113.7"], "203.0.113.7"),  # what is left of it is the client's own claim
            (["203.0.113.7, 10.1.2.3"], "203.0.113.7"),
            (["203.0.113.7,10.1.2.3 ,\t10.9.9.9"], "203.0.113.7"),
            (["8.8.8.8", "203.0.113.7", "10.1.2.3"], "203.0.113.7"),  # several lines are one list
            (["10.5.5.5, 10.1.2.3"], "10.5.5.5"),  # all of them are trusted: the first of all
            (["2001:db8::7"], "2001:db8::7"),
            (["[2001:db8::7]"], "2001:db8::7"),
            (["::ffff:203.0.113.7"], "203.0.113.7"),
            (["fe80::1%eth0"], "fe80::1%eth0"),
        ],
    )
    def test_the_right_most_address_that_is_not_trusted(self, lines: list[str], expected: str) -> None:
        assert remote(*lines) == Address(expected, 0)

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("203.0.113.7:4321", Address("203.0.113.7", 4321)),
            ("[2001:db8::7]:4321", Address("2001:db8::7", 4321)),
            ("203.0.113.7:99999", Address("203.0.113.7", 0)),
            ("203.0.113.7:_x", Address("203.0.113.7", 0)),
        ],
    )
    def test_a_port(self, line: str, expected: Address) -> None:
        assert remote(line) == expected

    @pytest.mark.parametrize(
        "entry", ["unknown", "", "client.example", "1.2.3", "[::1", "[::1]x", "unix:", "1.2.3.4 x"]
    )
    def test_what_is_no_address_ends_the_walk_at_who_wrote_it(self, entry: str) -> None:
        assert remote(f"8.8.8.8, {entry}") == PROXY
        assert remote(f"8.8.8.8, {entry}, 10.1.2.3") == Address("10.1.2.3", 0)

    def test_without_the_header_the_proxy_asks_itself(self) -> None:
        found = seen(Forwarding(INNER))
        assert (found.remote, found.via) == (PROXY, None)

    def test_the_proxy_stays(self) -> None:
        assert seen(Forwarding(INNER), ("X-Forwarded-For", "203.0.113.7")).via == PROXY

    def test_nobody_else_is_believed(self) -> None:
        stranger = Address("203.0.113.9", 5)
        pairs = [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Host", "x"), ("X-Forwarded-Proto", "https")]
        for trust in (None, INNER):
            forwarding = Forwarding(trust, host=True)
            assert seen(forwarding, *pairs, peer=stranger) == (
                stranger,
                None,
                "stream.example:8443",
                False,
                False,
            )
        assert seen(Forwarding(None), *pairs).remote == PROXY
        assert seen(Forwarding(INNER), *pairs, peer=None).remote is None

    def test_the_other_header_is_not_read(self) -> None:
        assert seen(Forwarding(INNER), ("Forwarded", "for=203.0.113.7")).remote == PROXY
        assert seen(Forwarding(INNER, "forwarded"), ("X-Forwarded-For", "203.0.113.7")).remote == PROXY

    def test_true_is_loopback_and_unix(self) -> None:
        pair = ("X-Forwarded-For", "203.0.113.7")
        for peer in (PROXY, Address("::1", 9), Address("unix:", 0)):
            assert seen(Forwarding(True), pair, peer=peer) == (
                Address("203.0.113.7", 0), peer, "stream.example:8443", True, False,
            )  # fmt: skip
        assert seen(Forwarding(True), pair, peer=Address("10.0.0.1", 9)).remote == Address("10.0.0.1", 9)


class TestForwarded:
    FORWARDING = Forwarding(INNER, "forwarded", host=True)

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (["for=203.0.113.7"], Address("203.0.113.7", 0)),
            (['For="[2001:db8::7]:4711"'], Address("2001:db8::7", 4711)),
            (['for="203.0.113.7:4711";by=10.0.0.1'], Address("203.0.113.7", 4711)),
            (["for=8.8.8.8, for=203.0.113.7;proto=https, by=x;for=10.1.2.3"], Address("203.0.113.7", 0)),
            (["for=8.8.8.8", " for=203.0.113.7 "], Address("203.0.113.7", 0)),
            (['for="203\\.0.113.7"'], Address("203.0.113.7", 0)),
            (["for=unknown"], PROXY),
            (["for=_hidden, for=10.1.2.3"], Address("10.1.2.3", 0)),
            (["proto=https"], PROXY),
        ],
    )
    def test_the_right_most_address_that_is_not_trusted(self, lines: list[str], expected: Address) -> None:
        assert seen(self.FORWARDING, *[("Forwarded", line) for line in lines]).remote == expected

    @pytest.mark.parametrize(
        "line",
        ["", "for", "for=", 'for="', 'for="a', "for=a;", "for=a,", ",for=a", "for=a b", "for=a;for=b",
         "for=[::1]",          "for = a", "=a", 'for="a"b'],
    )  # fmt: skip
    def test_what_is_malformed_is_refused(self, line: str) -> None:
        """A client could otherwise hide what the proxy appends."""
        for lines in ([line], [line, "for=203.0.113.7"], ["for=203.0.113.7", line]):
            found = self.FORWARDING.read(headers(*[("Forwarded", each) for each in lines]), PROXY, False)
            assert isinstance(found, Refusal)
            assert found.status == 400

    def test_a_quoted_text_ends_with_its_line(self) -> None:
        pairs = [("Forwarded", 'for=1.1.1.1;by="'), ("Forwarded", '";for=203.0.113.7')]
        assert isinstance(self.FORWARDING.read(headers(*pairs), PROXY, False), Refusal)

    def test_host_and_scheme_are_those_of_the_same_proxy(self) -> None:
        line = "for=203.0.113.7;host=dash.example;proto=https, for=10.1.2.3;host=inner;proto=http"
        found = seen(self.FORWARDING, ("Forwarded", line))
        assert (found.host, found.host_is_proxys, found.secure) == ("dash.example", False, True)
        found = seen(Forwarding(INNER, "forwarded"), ("Forwarded", line))
        assert (found.host, found.host_is_proxys, found.secure) == ("stream.example:8443", True, False)


class TestHost:
    def test_only_where_it_is_asked_for(self) -> None:
        pairs = [("X-Forwarded-Host", "dash.example"), ("X-Forwarded-Proto", "https")]
        found = seen(Forwarding(INNER), *pairs)
        assert (found.host, found.host_is_proxys, found.secure) == ("stream.example:8443", True, False)
        found = seen(Forwarding(INNER, host=True), *pairs)
        assert (found.host, found.host_is_proxys, found.secure) == ("dash.example", False, True)

    def test_the_nearest_proxy_says_it(self) -> None:
        pairs = [("X-Forwarded-Host", "evil.example, a"), ("X-Forwarded-Host", "b ,dash.example:8443")]
        assert seen(Forwarding(INNER, host=True), *pairs).host == "dash.example:8443"

    @pytest.mark.parametrize("host", ["a b", "a/b", "a@b", "a:b", "[::1", "a:", "ä"])
    def test_what_is_no_host_is_refused(self, host: str) -> None:
        found = Forwarding(INNER, host=True).read(headers(("X-Forwarded-Host", host)), PROXY, False)
        assert isinstance(found, Refusal)

    def test_an_unknown_scheme_says_nothing(self) -> None:
        forwarding = Forwarding(INNER, host=True)
        for secure in (False, True):
            found = forwarding.read(headers(("X-Forwarded-Proto", "gopher")), PROXY, secure)
            assert isinstance(found, Asker)
            assert found.secure is secure
        found = forwarding.read(headers(("X-Forwarded-Proto", "HTTP")), PROXY, True)
        assert isinstance(found, Asker)
        assert found.secure is False


@given(
    st.sampled_from(["x-forwarded-for", "forwarded"]),
    st.lists(st.text(st.characters(min_codepoint=9, max_codepoint=255), max_size=40), max_size=4),
)
def test_what_a_client_writes_changes_nothing(header: str, claims: list[str]) -> None:
    """Any lines of a client's, then the proxy's own: the proxy's address of it, or a refusal."""
    own = "203.0.113.7" if header == "x-forwarded-for" else "for=203.0.113.7"
    pairs = [(header, claim) for claim in claims]
    found = Forwarding(INNER, header, True).read(headers(*pairs, (header, own)), PROXY, False)
    if isinstance(found, Refusal):
        assert header == "forwarded"
    else:
        assert found.remote == Address("203.0.113.7", 0)
