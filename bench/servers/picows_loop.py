"""picows: the loop of `transport.send` over all transports that its own broadcast example has."""

from __future__ import annotations

import sys

from drive import Job, Server, Tally, parse_job, run, tls_context

job = parse_job(sys.argv[1:])

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server  # noqa: E402

BINARY = WSMsgType.BINARY


async def start(job: Job, tally: Tally) -> Server:
    transports: list[WSTransport] = []

    class Listener(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            transports.append(transport)

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            transports.remove(transport)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == BINARY:
                frame.get_payload_as_bytes()
                tally.count += 1
                if tally.count == tally.mark:
                    tally.reached()

    def publish(payload: bytes) -> None:
        for transport in transports:
            transport.send(BINARY, payload)

    server = await ws_create_server(
        lambda request: Listener(), "127.0.0.1", 0, max_frame_size=1 << 26, ssl=tls_context(job)
    )
    return Server(server.sockets[0].getsockname()[1], publish, keep=[server])


run(start, job)
