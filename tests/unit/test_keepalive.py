"""keepalive.py: what the system is told."""

from __future__ import annotations

import math
import socket
import sys

import pytest

from deli_com.net.tcp_keepalive import check_keepalive, probe


@pytest.mark.skipif(sys.platform != "linux", reason="the options have other names elsewhere")
class TestProbe:
    @pytest.mark.parametrize(
        ("interval", "timeout", "idle", "between"), [(20, 20, 20, 5), (0.2, 0.2, 1, 1), (90.4, 10, 90, 2)]
    )
    def test_whole_seconds_and_one_at_least(self, interval, timeout, idle, between):
        with socket.socket() as sock:
            probe(sock, interval, timeout)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == between
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 8

    def test_a_socket_of_another_family_is_left_alone(self):
        for sock in socket.socketpair():
            with sock:
                probe(sock, 20.0, 20.0)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0

    def test_never(self):
        with socket.socket() as sock:
            probe(sock, math.inf, math.inf)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


class TestCheck:
    def test_none_and_seconds(self):
        check_keepalive(None, None)
        check_keepalive(0.5, 1)

    @pytest.mark.parametrize("value", [0, -1.0, math.nan])
    def test_anything_else_is_refused_by_name(self, value):
        with pytest.raises(ValueError, match="keepalive_interval is"):
            check_keepalive(value, 1.0)
        with pytest.raises(ValueError, match="keepalive_timeout is"):
            check_keepalive(None, value)
