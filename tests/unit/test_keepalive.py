"""net/tcp_keepalive.py: the socket options that it sets."""

from __future__ import annotations

import math
import socket
import sys

import pytest

from deli_com.net.tcp_keepalive import probe


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

    def test_longer_than_the_system_can_count(self):
        with socket.socket() as sock:
            probe(sock, 1e8, 1e8)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 32767
