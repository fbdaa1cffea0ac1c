"""``deli-com relay``: what another server sends, served to more clients."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import ssl as ssl_module
import sys
from pathlib import Path
from typing import Any

from deli_com.cli.command import OK, CommandError, describe, fail, note
from deli_com.cli.listen import positive
from deli_com.cli.urls import add_url_options, server_of, tls_of
from deli_com.errors import ComError
from deli_com.link.request import Request
from deli_com.types.delivery import POLICIES
from deli_com.ws.response import Response

__all__ = ["fill", "run"]


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Passes on what another server sends to any number of clients. It asks for the schema, so no class
        is needed, and passes values as bytes. It reconnects when the server is gone; clients stay connected
        meanwhile. GET /healthz is answered 200 while the server is connected, else 503.""",
        """deli-com relay ws://robot:8765 --bind 0.0.0.0:9000
        deli-com relay ws://robot:8765 --bind 0.0.0.0:9000 --workers 4
        deli-com relay tcp://127.0.0.1:9001 --bind 0.0.0.0:9000 --only Pose,Battery
        deli-com relay ws://127.0.0.1:8765 --bind 127.0.0.1:9000 --dial wss://hub.example/up --token-file key
        deli-com relay --accept-dial /up --token-file key --bind 0.0.0.0:443 --tls-cert hub.pem""",
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="URL of the server; none with --accept-dial")
    parser.add_argument("--bind", metavar="ADDR", required=True, help="where clients connect: HOST:PORT")
    parser.add_argument("--workers", type=positive, metavar="N", default=1, help="processes, one per core")
    parser.add_argument("--only", metavar="TYPE,…", default="", help="pass on only values of these classes")
    parser.add_argument(
        "--slow-client", choices=POLICIES, default="disconnect", help="policy of classes that declare none"
    )
    parser.add_argument("--max-clients", type=positive, metavar="N", help="of each process; more get 503")
    parser.add_argument(
        "--origin", action="append", default=[], metavar="URL", help="web pages that may connect; repeatable"
    )
    parser.add_argument("--metrics", action="store_true", help="serve metrics for Prometheus at /metrics")
    parser.add_argument("--tls-cert", metavar="FILE", help="serve wss:// with this certificate")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key, if that is another file")
    hub = parser.add_argument_group("robots that nobody can connect to")
    hub.add_argument("--dial", metavar="URL", help="connect to this hub, and send it the values")
    hub.add_argument("--accept-dial", metavar="PATH", help="be that hub: a relay connects at this path")
    hub.add_argument("--token-file", metavar="FILE", help="the secret that one sends and the other compares")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    add_url_options(parser)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    if (options.url is None) == (options.accept_dial is None):
        fail("give the URL of a server, or --accept-dial")
    if options.workers > 1 and options.accept_dial is not None:
        fail(
            "--accept-dial needs one process: the relay that dials would reach only one of several. Start "
            "another relay of this one, with --workers"
        )
    if bool(options.dial or options.accept_dial) != bool(options.token_file):
        fail("--dial and --accept-dial need --token-file, and it needs one of them")
    if options.tls_key and not options.tls_cert:
        fail("a private key needs its certificate: give --tls-cert too")
    try:
        arguments = _arguments(options)
        from deli_com.relay import Relay

        Relay(**arguments)  # for its errors
        return asyncio.run(_supervise(options) if options.workers > 1 else _serve(options, arguments))
    except (ComError, OSError, ValueError, TypeError, ImportError) as error:
        raise CommandError(str(error)) from error


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"bind": options.bind, "slow_client": options.slow_client}
    if options.url is not None:
        secure = options.url.startswith(("wss:", "tcps:"))
        of_dial = options.dial is not None and options.dial.startswith("wss:") and not secure
        without = {"ca": None, "cert": None, "key": None} if of_dial else {}
        place = server_of(options.url, argparse.Namespace(**{**vars(options), **without}))
        found |= {"url": options.url, "connect": place.options}
    if options.token_file:
        token = Path(options.token_file).read_text(encoding="ascii").strip()
        found |= {"token": token, "dial": options.dial, "accept_dial": options.accept_dial}
        if options.dial is not None and options.dial.startswith("wss:"):
            found["dial_options"] = {"ssl": tls_of(options)}
    if options.tls_cert:
        context = ssl_module.create_default_context(ssl_module.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.tls_cert, options.tls_key)
        found["ssl"] = context
    if options.only:
        found["only"] = options.only.split(",")
    if options.origin:
        found["origins"] = options.origin
    if options.max_clients:
        found["max_clients"] = options.max_clients
    if options.worker:
        found["reuse_port"] = True
    return found


async def _serve(options: argparse.Namespace, arguments: dict[str, Any]) -> int:
    from deli_com.relay import Relay

    end = _end_of_signals()
    relay: Any = None
    if options.metrics:
        render = _metrics_of(lambda: relay)
        arguments["http"] = {"/metrics": render}
    if options.worker:
        _end_with_parent(end)
    relay = Relay(**arguments)
    relay.start()
    listening = asyncio.ensure_future(relay.wait_listening())
    closed = asyncio.ensure_future(relay.wait_closed())
    ending = asyncio.ensure_future(end.wait())
    try:
        await asyncio.wait([listening, closed, ending], return_when=asyncio.FIRST_COMPLETED)
        if listening.done() and not ending.done():
            listening.result()
            if not options.worker:
                scheme = "wss" if options.tls_cert else "ws"
                note(f"{scheme}://{relay.local_addr()}: relay of {options.url or options.accept_dial}")
                sys.stderr.flush()
            await asyncio.wait([closed, ending], return_when=asyncio.FIRST_COMPLETED)
        if closed.done():
            closed.result()
    finally:
        await relay.close()
        ending.cancel()
        await asyncio.gather(listening, closed, ending, return_exceptions=True)
    return OK


async def _supervise(options: argparse.Namespace) -> int:
    from deli_com.relay.workers import ReservedPort, Workers, this_command

    end = _end_of_signals()
    port = await ReservedPort.open(options.bind)
    try:
        given = ["relay", "--worker", *_worker_arguments(options), "--bind", str(port.address)]
        dial = ["--dial", options.dial, "--token-file", options.token_file] if options.dial else []
        # The hub accepts one relay, so only the first process dials.
        commands = [this_command(*given, *([] if index else dial)) for index in range(options.workers)]
        scheme = "wss" if options.tls_cert else "ws"
        note(f"{scheme}://{port.address}: relay of {options.url} in {options.workers} processes")
        sys.stderr.flush()
        return await Workers(commands).run(end)
    finally:
        port.close()


def _worker_arguments(options: argparse.Namespace) -> list[str]:
    found = [options.url, "--slow-client", options.slow_client]
    for name in ("ca", "cert", "key", "tls_cert", "tls_key", "only", "max_clients"):
        value = getattr(options, name)
        if value:
            found += [f"--{name.replace('_', '-')}", str(value)]
    for name in ("header", "origin"):
        for value in getattr(options, name):
            found += [f"--{name}", value]
    return [*found, *(["--metrics"] if options.metrics else [])]


def _end_of_signals() -> asyncio.Event:
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, end.set)
        except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt
            pass
    return end


def _end_with_parent(end: asyncio.Event) -> None:
    """Set `end` when the standard input ends, because then the process that started this one has ended."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()

    def look() -> None:
        if not os.read(descriptor, 1024):
            loop.remove_reader(descriptor)
            end.set()

    loop.add_reader(descriptor, look)


def _metrics_of(relay: Any) -> Any:
    """Make the handler of /metrics; `relay` returns the relay."""
    import prometheus_client

    from deli_com.metrics import Collector

    registry = prometheus_client.CollectorRegistry()
    collectors: list[Collector] = []

    def render(request: Request) -> Response:
        if not collectors:  # made at the first scrape: the relay has an address then
            collectors.append(Collector(relay()))
            registry.register(collectors[0])
        body = prometheus_client.generate_latest(registry)
        return Response(headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}, body=body)

    return render
