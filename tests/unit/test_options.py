"""Options: the valid values of each, and errors that name option, value and what is expected."""

from __future__ import annotations

import datetime
import decimal
import inspect
import math
import ssl
import sys

import numpy as np
import pytest

from deli_com import Background, Client, Server, WsClient, WsServer, serve_background
from deli_com.net.options import RULES, checked, checking_options, one_checked
from deli_com.recording.where import RecordOptions
from deli_com.tcp.client import TcpConnectOptions
from deli_com.ws.client import ConnectOptions
from deli_com.ws.server import OF_THE_PORT, open_port

CALLS = (Server.bind, WsServer.bind, Client.connect, WsClient.connect)
SECONDS = [
    "open_timeout",
    "progress_timeout",
    "close_timeout",
    "drain",
    "ping_interval",
    "ping_timeout",
    "max_transit",
    "keepalive_interval",
    "keepalive_timeout",
    "first_delay",
    "max_delay",
]
NEVER = [
    "open_timeout",
    "progress_timeout",
    "ping_interval",
    "ping_timeout",
    "max_transit",
    "keepalive_interval",
]
COUNTS = ["max_backlog", "max_keys", "max_message_size", "max_inbound"]


def test_every_option_of_a_call_has_a_rule():
    for call in CALLS:
        for name in list(inspect.signature(call).parameters)[1:]:
            assert name in RULES or name == "ssl", (call, name)
    assert "loop_factory" in RULES
    assert "loop_factory" in inspect.signature(serve_background).parameters


def defaults(call):
    return {name: p.default for name, p in inspect.signature(call).parameters.items() if name != "addr"}


def test_an_option_of_two_calls_has_one_default():
    """But for TCP clients, who announce no schema and use no proxy unless asked."""
    differ = set()
    for one, other in ((Server.bind, WsServer.bind), (Client.connect, WsClient.connect)):
        first, second = defaults(one), defaults(other)
        differ |= {(one.__qualname__, name) for name in first if first[name] != second.get(name, first[name])}
    assert differ == {("Client.connect", "schema"), ("Client.connect", "proxy")}


def test_all_lists_of_the_options_of_a_call_have_the_same():
    """Of `connect` those of a stream, of `record` those that are passed on, of `bind` those of a port."""

    def parameters(call, *without):
        return {*inspect.signature(call).parameters} - {*without}

    assert {*ConnectOptions.__annotations__} == parameters(WsClient.connect, "addr", "sock", "headers")
    assert {*TcpConnectOptions.__annotations__} == parameters(Client.connect, "addr", "sock")
    assert {*RecordOptions.__annotations__} == parameters(WsServer.record, "self", "path")
    assert {*OF_THE_PORT} == parameters(open_port, "addr")
    of_bind, of_port = defaults(WsServer.bind), defaults(open_port)
    assert of_port == {name: of_bind[name] for name in of_port}
    assert defaults(Background.record_last) == defaults(WsServer.record_last)


@pytest.mark.parametrize("call", CALLS)
def test_a_default_is_what_its_rule_gives(call):
    """So no call has to check what it was not given."""
    for name, default in defaults(call).items():
        rule = {"ssl": "server_ssl" if call.__name__ == "bind" else "client_ssl"}.get(name, name)
        assert one_checked(rule, default) == default


def test_a_call_gets_what_its_rules_give():
    class Opened:
        @classmethod
        @checking_options({"size": "max_message_size"}, also=lambda addr, given: seen.append((addr, given)))
        def bind(cls, addr=None, *, size=1, drain=2.0, n=3):
            return addr, size, drain, n

    seen = []
    assert Opened.bind(drain=np.int64(5)) == (None, 1, 5.0, 3)
    assert Opened.bind("here", size=np.int64(4)) == Opened.bind(addr="here", size=4) == ("here", 4, 2.0, 3)
    assert seen == [(..., {"drain": 5.0}), ("here", {"size": 4}), ("here", {"addr": "here", "size": 4})]
    with pytest.raises(ValueError, match=r"^size is 0, expected bytes"):
        Opened.bind(size=0)
    with pytest.raises(
        TypeError, match=r"^Opened.bind\(\) got an unexpected .*'drian'; did you mean 'drain'"
    ):
        Opened.bind(drian=1)


class TestSeconds:
    @pytest.mark.parametrize("name", SECONDS)
    def test_a_wrong_kind(self, name):
        for value in (True, "5", b"5", [], object(), 1j, datetime.timedelta(seconds=1)):
            with pytest.raises(TypeError, match=rf"^{name} is .*, expected seconds, 0.* or more"):
                one_checked(name, value)

    @pytest.mark.parametrize("name", SECONDS)
    def test_a_wrong_value(self, name):
        for value in (-1, -0.001, math.nan, -math.inf, np.float64("nan")):
            with pytest.raises(ValueError, match=rf"^{name} is .*, expected seconds, .*None"):
                one_checked(name, value)

    @pytest.mark.parametrize("name", NEVER)
    def test_what_means_off_is_said(self, name):
        with pytest.raises(ValueError, match=rf"^{name} is 0, expected seconds, 0\.001 or more, or None: n"):
            one_checked(name, 0)
        for value in (None, math.inf, 1e300, 10**400, sys.maxsize):
            assert one_checked(name, value) is None

    @pytest.mark.parametrize("name", ["close_timeout", "drain", "first_delay", "max_delay"])
    def test_there_is_no_for_ever(self, name):
        with pytest.raises(TypeError, match=f"^{name} is None, expected .* None is not allowed"):
            one_checked(name, None)
        for value in (math.inf, 1e300, 10**400):
            with pytest.raises(ValueError, match=f"^{name} is .*at most 1e"):
                one_checked(name, value)

    def test_any_real_number_will_do(self):
        for value in (2, 2.0, np.float32(2), np.int64(2), decimal.Decimal(2)):
            assert one_checked("ping_interval", value) == 2.0
            assert type(one_checked("ping_interval", value)) is float
        assert one_checked("close_timeout", 0) == 0.0

    def test_a_timedelta_gets_a_hint(self):
        with pytest.raises(TypeError, match=r"write \.total_seconds\(\)"):
            one_checked("drain", datetime.timedelta(seconds=1))

    def test_what_is_left_of_a_deadline_may_be_less_than_nothing(self):
        assert one_checked("timeout", -1) == -1
        with pytest.raises(ValueError, match=r"^timeout is nan, expected seconds, or None: no limit"):
            one_checked("timeout", math.nan)


class TestCounts:
    @pytest.mark.parametrize("name", COUNTS)
    def test_a_wrong_kind(self, name):
        for value in (True, "16M", "5", b"5", 5.0, math.nan, [], object()):
            with pytest.raises(TypeError, match=rf"^{name} is .*, expected \w+s as an int, 1 or more.*None"):
                one_checked(name, value)

    @pytest.mark.parametrize("name", COUNTS)
    def test_a_wrong_value(self, name):
        for value in (0, -1, 1 << 63, 10**5000):
            with pytest.raises(ValueError, match=rf"^{name} is .*, expected \w+s as an int, 1 or more.*None"):
                one_checked(name, value)

    @pytest.mark.parametrize(
        ("value", "hint"),
        [("16M", "16 << 20"), ("64 KiB", "64 << 10"), ("1gb", "1 << 30"), ("4096", "4096"), (1e6, "1000000")],
    )
    def test_a_hint_where_it_can_be_told_what_was_meant(self, value, hint):
        with pytest.raises(TypeError, match=rf"^max_backlog is {value!r}, .*; write {hint}$"):
            one_checked("max_backlog", value)

    def test_none_says_what_it_means(self):
        with pytest.raises(ValueError, match=r"or None: 256 MiB"):
            one_checked("max_inbound", 0)
        with pytest.raises(ValueError, match=r"^max_clients is -1, .* 0 or more, or None: no limit"):
            one_checked("max_clients", -1)
        with pytest.raises(TypeError, match="a limit is required, so None is not allowed"):
            one_checked("max_backlog", None)
        assert one_checked("max_clients", None) is None

    def test_four_bytes_of_length(self):
        with pytest.raises(ValueError, match=r"^max_message_size is 4294967296, .*4294967295 \(a length has"):
            checked(max_frame_bytes=1 << 32)
        assert checked(max_frame_bytes=(1 << 32) - 1) == {"max_message_size": (1 << 32) - 1}

    def test_what_programs_write_for_no_limit(self):
        assert one_checked("max_backlog", sys.maxsize) == 1 << 60
        assert type(one_checked("max_backlog", np.int64(5))) is int


class TestOthers:
    def test_a_choice(self):
        with pytest.raises(
            ValueError, match=r"^slow_client is 'latestt', expected one of .*; did you mean 'latest'"
        ):
            one_checked("slow_client", "latestt")
        for value in (None, 5, ["wait"], b"wait"):
            with pytest.raises(TypeError, match=r"^slow_client is .*, expected one of 'disconnect', 'wait'"):
                one_checked("slow_client", value)

    @pytest.mark.parametrize(
        "name", ["on_connect", "on_disconnect", "on_reconnect", "authorize", "loop_factory"]
    )
    def test_a_function(self, name):
        with pytest.raises(TypeError, match=rf"^{name} is 'print', expected a function \("):
            one_checked(name, "print")
        assert one_checked(name, print) is print
        assert one_checked(name, None) is None

    def test_a_context_of_the_other_side(self):
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        assert checked(server_ssl=server) == {"ssl": server}
        assert checked(client_ssl=client) == {"ssl": client}
        with pytest.raises(ValueError, match=r"^ssl is a context for the other side.*Purpose\.CLIENT_AUTH"):
            checked(server_ssl=client)
        with pytest.raises(ValueError, match=r"^ssl is a context for the other side.*Purpose\.SERVER_AUTH"):
            checked(client_ssl=server)
        for value in ("cert.pem", 1, True):
            with pytest.raises(
                TypeError, match=r"^ssl is .*, expected an ssl\.SSLContext for a server, or None"
            ):
                checked(server_ssl=value)
        with pytest.raises(
            TypeError, match=r"^ssl is 1, expected an ssl\.SSLContext for a client, True, False"
        ):
            checked(client_ssl=1)

    @pytest.mark.parametrize("value", ["chat", b"chat", 5, ["chat", 5], None])
    def test_names(self, value):
        with pytest.raises(TypeError, match=r"^subprotocols .*, expected a list or tuple of str"):
            one_checked("subprotocols", value)

    @pytest.mark.parametrize("value", ["https://a.example", b"x", 5, ["https://a.example", 5]])
    def test_origins(self, value):
        with pytest.raises(TypeError, match=r"^origins .*, expected a list of str such as .*https://"):
            one_checked("origins", value)

    @pytest.mark.parametrize("name", ["headers", "response_headers"])
    @pytest.mark.parametrize("value", ["A: b", b"x", 5, {"A": 5}, [("A",)], ["ab"], [5]])
    def test_headers(self, name, value):
        with pytest.raises(TypeError, match=rf"^{name} .*, expected a mapping of str to str, or pairs"):
            one_checked(name, value)

    def test_iterators_are_read_once(self):
        assert one_checked("headers", iter([("A", "b")])) == (("A", "b"),)
        assert one_checked("subprotocols", iter(["a"])) == ("a",)

    def test_what_fails_at_its_repr_is_named_all_the_same(self):
        class Sly:
            def __repr__(self):
                raise RuntimeError

        with pytest.raises(TypeError, match=r"^max_keys is <"):
            one_checked("max_keys", Sly())
        with pytest.raises(TypeError, match=r"^max_keys is 'aaa.*\.\.\., expected"):
            one_checked("max_keys", "a" * 10_000)
