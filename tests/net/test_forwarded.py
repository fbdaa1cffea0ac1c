"""The client's address, host and scheme from the headers of a trusted proxy: `bind(forwarded_from=…)`."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer

from deli_com import Peer, Refusal, Request, Response, WebSocketError, WsClient, WsServer, u32
from deli_com.net.address import Address

ADDR = "127.0.0.1:0"
CLIENT = "203.0.113.7"
HEADERS = {"X-Forwarded-For": f"8.8.8.8, {CLIENT}"}


async def asked(headers: dict[str, str], **options: Any) -> tuple[Request, Peer]:
    """What a server with these options knows of a client that connects with these headers."""
    peers: list[Peer] = []
    requests: list[Request] = []
    async with (
        WsServer[u32].bind(ADDR, authorize=requests.append, on_connect=peers.append, **options) as server,
        WsClient[u32].connect(server.local_addr(), headers=headers),
    ):
        await server.wait_clients(1)
    return requests[0], peers[0]


async def status_of(headers: dict[str, str], origin: str, **options: Any) -> int:
    async with WsServer[u32].bind(ADDR, forwarded_from=True, **options) as server:
        try:
            client = await WsClient[u32].connect(server.local_addr(), headers=headers, origin=origin)
        except WebSocketError as error:
            return error.status or 0
        await client.close()
        return 101


class TestAddress:
    async def test_without_the_option_nothing_is_believed(self) -> None:
        request, peer = await asked(HEADERS)
        assert request.remote == peer.remote_addr
        assert peer.remote_addr is not None
        assert peer.remote_addr.host == "127.0.0.1"
        assert peer.via is request.via is None

    @pytest.mark.parametrize("trust", [True, ["127.0.0.0/8"]])
    async def test_the_right_most_untrusted_one(self, trust: Any) -> None:
        request, peer = await asked(HEADERS, forwarded_from=trust)
        assert request.remote == peer.remote_addr == Address(CLIENT, 0)
        assert request.via == peer.via
        assert peer.via is not None
        assert peer.via.host == "127.0.0.1"
        assert repr(peer) == f"<Peer {CLIENT}:0>"

    async def test_one_who_is_not_trusted_is_not_believed(self) -> None:
        request, peer = await asked(HEADERS, forwarded_from=["10.0.0.0/8"])
        assert request.remote == peer.remote_addr
        assert peer.remote_addr is not None
        assert peer.remote_addr.host == "127.0.0.1"
        assert peer.via is None

    async def test_the_other_header(self) -> None:
        both = {"Forwarded": 'for="[2001:db8::7]:4711"', **HEADERS}
        _, peer = await asked(both, forwarded_from=True, forwarded_header="forwarded")
        assert peer.remote_addr == Address("2001:db8::7", 4711)
        _, peer = await asked(both, forwarded_from=True)
        assert peer.remote_addr == Address(CLIENT, 0)

    async def test_it_stays_after_the_client_has_left(self) -> None:
        _, peer = await asked(HEADERS, forwarded_from=True)
        assert not peer.is_open
        assert (peer.remote_addr, peer.via is None) == (Address(CLIENT, 0), False)

    async def test_logs_name_it(self, caplog: Any) -> None:
        caplog.set_level(logging.INFO)
        await asked(HEADERS, forwarded_from=True)
        lines = [r.getMessage() for r in caplog.records if r.name == "deli_com.server"]
        assert [line for line in lines if line.startswith(f"{CLIENT}:0 connected")]
        assert [line for line in lines if line.startswith(f"{CLIENT}:0 is gone")]

    async def test_so_does_the_log_of_refusals(self, caplog: Any) -> None:
        caplog.set_level(logging.INFO)
        async with WsServer[u32].bind(
            ADDR, forwarded_from=True, authorize=lambda request: Refusal(403, "not you")
        ) as server:
            with pytest.raises(WebSocketError):
                await WsClient[u32].connect(server.local_addr(), headers=HEADERS)
        lines = [r.getMessage() for r in caplog.records]
        assert f"refused {CLIENT}:0: 403 not you" in lines

    async def test_plain_requests_have_it_too(self) -> None:
        def handler(request: Request) -> Response:
            return Response(body=f"{request.remote} {request.via is None} {request.host}".encode())

        async with WsServer[u32].bind(ADDR, forwarded_from=True, forwarded_host=True, http=handler) as server:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.7\r\n"
                b"X-Forwarded-Host: dash.example\r\n\r\n"
            )
            assert (await peer.read_all()).endswith(b"203.0.113.7:0 False dash.example")
            peer.close()

    async def test_behind_a_balancer_that_speaks_the_proxy_protocol(self) -> None:
        """The balancer's word for the proxy, the proxy's for the client."""
        requests: list[Request] = []
        head = PLAIN_HEAD.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
        async with WsServer[u32].bind(
            ADDR, proxy_protocol=True, forwarded_from=["10.0.0.0/8"], authorize=requests.append
        ) as server:
            for proxy in (b"10.1.2.3", b"192.0.2.1"):
                peer = await RawPeer.open(server.local_addr())
                await peer.send(b"PROXY TCP4 %s 192.0.2.9 4321 443\r\n" % proxy + head)
                await peer.read_until(b"\r\n\r\n")
                peer.close()
        assert [(r.remote, r.via) for r in requests] == [
            (Address(CLIENT, 0), Address("10.1.2.3", 4321)),
            (Address("192.0.2.1", 4321), None),
        ]

    async def test_a_header_that_is_none_is_refused(self) -> None:
        async with WsServer[u32].bind(ADDR, forwarded_from=True, forwarded_header="forwarded") as server:
            with pytest.raises(WebSocketError, match="the Forwarded header is malformed") as caught:
                await WsClient[u32].connect(server.local_addr(), headers={"Forwarded": 'for="'})
        assert caught.value.status == 400


class TestHost:
    async def test_only_with_forwarded_host(self) -> None:
        headers = {"X-Forwarded-Host": "dash.example", "X-Forwarded-Proto": "https", **HEADERS}
        request, _ = await asked(headers, forwarded_from=True)
        assert (request.host.partition(":")[0], request.secure) == ("127.0.0.1", False)
        request, _ = await asked(headers, forwarded_from=True, forwarded_host=True)
        assert (request.host, request.secure) == ("dash.example", True)

    async def test_a_page_of_the_forwarded_host_may_connect(self) -> None:
        headers = {"X-Forwarded-Host": "dash.example"}
        assert await status_of(headers, "https://dash.example", forwarded_host=True) == 101
        assert await status_of(headers, "https://other.example", forwarded_host=True) == 403
        assert await status_of(headers, "https://dash.example") == 403

    async def test_a_loopback_host_of_the_proxys_lets_no_page_in(self) -> None:
        """The client has connected to 127.0.0.1, as a proxy does; the page is the client's own machine's."""
        for origin in ("http://localhost:3000", "http://127.0.0.1:8080"):
            assert await status_of({}, origin) == 403
            assert await status_of({}, origin, origins=[origin]) == 101
        for page in (False, True):  # the address that the proxy has connected to is no page's own
            async with WsServer[u32].bind(ADDR, forwarded_from=True, page=page) as server:
                addr = server.local_addr()
                with pytest.raises(WebSocketError, match="403"):
                    await WsClient[u32].connect(addr, headers=HEADERS, origin=f"http://{addr}")
        headers = {"X-Forwarded-Host": "localhost:8080"}  # the proxy itself is on the user's machine
        assert await status_of(headers, "http://localhost:3000", forwarded_host=True) == 101


class TestOptions:
    async def test_they_belong_to_the_port(self) -> None:
        async with WsServer[u32].bind(ADDR, forwarded_from=True) as server:
            for option in ({"forwarded_from": True}, {"forwarded_host": True}):
                with pytest.raises(ValueError, match=r"forwarded_(from|host) "):
                    WsServer[u32].bind(server, path="/b", **option)

    @pytest.mark.parametrize("option", [{"forwarded_host": True}, {"forwarded_header": "forwarded"}])
    def test_alone_they_mean_nothing(self, option: Any) -> None:
        (name,) = option
        with pytest.raises(ValueError, match=f"{name} is given without forwarded_from="):
            WsServer[u32].bind(ADDR, **option)

    def test_a_header_that_is_not_known(self) -> None:
        with pytest.raises(ValueError, match=r"forwarded_header is 'x-real-ip', expected one of"):
            WsServer[u32].bind(ADDR, forwarded_from=True, forwarded_header="x-real-ip")  # type: ignore[arg-type]
