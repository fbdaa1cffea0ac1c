"""Public calls while one system call of a TCP socket fails: the first, the second, … until none fails.

Run it with `failing_calls_shim.c` preloaded. Each time, the program must end, normally or by one of its
errors. After that the same calls must work, and no descriptor and no task may be left.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import logging
import os
import sys
import warnings
from typing import Any

import helpers

from deli_com import Client, ComError, Server, WsClient, WsServer

CALLS = {
    "socket": (errno.EMFILE, errno.ENOBUFS),
    "bind": (errno.EADDRINUSE, errno.EACCES),
    "listen": (errno.EADDRINUSE,),
    "accept": (errno.ECONNABORTED, errno.EMFILE, errno.ENOBUFS),
    "connect": (errno.ECONNREFUSED, errno.ENETUNREACH),
    "setsockopt": (errno.EINVAL,),
    "getsockopt": (errno.ENOBUFS,),
    "getsockname": (errno.ENOBUFS,),
    "getpeername": (errno.ENOTCONN,),
    "send": (errno.EPIPE, errno.ECONNRESET, errno.ENOBUFS),
    "recv": (errno.ECONNRESET, errno.ETIMEDOUT),
    "shutdown": (errno.ENOTCONN,),
    "epoll_ctl": (errno.ENOMEM,),
}
MOST = 60  # of one name in one round
LIMIT_S = 20.0 * helpers.SLOW
PATIENCE_S = 1.0 * helpers.SLOW  # where one end never hears that the other has failed
LARGE = bytes(300_000)

now = [""]  # which call fails
unraisable: list[str] = []
shim: Any = ctypes.CDLL(None).fail_call


def descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return {target for target in found if target.startswith("socket:")}


async def once(server_type: Any, client_type: Any, tls: str) -> None:
    """Every kind of call, in one life of a server and its client."""
    ours, theirs = helpers.certificates() if tls != "plain" else (None, None)
    if tls == "callbacks":  # the engine of such contexts is another
        ours.sni_callback = lambda *_: None
    short = {"open_timeout": PATIENCE_S} if server_type is WsServer else {}
    async with server_type[bytes].bind("127.0.0.1:0", ssl=ours, close_timeout=0.2, **short) as server:
        address = ("127.0.0.1" if tls == "plain" else "localhost", server.local_addr().port)
        connecting = client_type[bytes].connect(
            address, ssl=theirs, open_timeout=PATIENCE_S, close_timeout=0.2
        )
        async with asyncio.timeout(2 * PATIENCE_S), connecting as client:
            await server.wait_clients(1)
            (peer,) = server.clients
            group = server.group("g")
            group.add(peer)
            await server.send(b"to all")
            await group.send(b"to some")
            await peer.send(b"to one")
            for _ in range(3):
                await server.send(LARGE)
            await client.send(b"up")
            await client.send(LARGE)
            for _ in range(6):
                await client.recv()
            for _ in range(2):
                await server.recv()
            server.stats()
            peer.stats()


async def round_of(server_type: Any, client_type: Any, tls: str) -> str:
    try:
        await once(server_type, client_type, tls)
    except (OSError, ComError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    except ValueError as error:  # of `(peer,) = server.clients`, who has left
        if "unpack" not in str(error):
            raise
        return "left"
    return ""


async def works(server_type: Any, client_type: Any, tls: str) -> str:
    """`round_of` where nothing fails; a machine that is busy may need a second try."""
    for _ in range(3):
        said = await round_of(server_type, client_type, tls)
        if "ime" not in said:
            break
    return said


async def sweep(server_type: Any, client_type: Any, tls: str) -> dict[str, tuple[int, int]]:
    """For each system call: how often it was made to fail, and how often the program was told."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    counts = {}
    for _ in range(2):
        said = await works(server_type, client_type, tls)
        assert said == "", said
    before, tasks = descriptors(), len(asyncio.all_tasks())
    for which, (name, errors) in enumerate(CALLS.items()):
        failed = told = 0
        for nth in range(1, MOST):
            error = errors[nth % len(errors)]
            where = f"{name} {nth} {errno.errorcode[error]}"
            now[:] = [where]
            shim(which, nth, error)
            try:
                async with asyncio.timeout(LIMIT_S):
                    said = await round_of(server_type, client_type, tls)
            except TimeoutError:
                raise AssertionError(f"{where}: it does not end") from None
            made = shim(-1, 0, 0)
            if made < nth:
                said = said and await works(server_type, client_type, tls)
                assert not said, f"{where}: {said}, and nothing has failed"
                break
            failed += 1
            told += bool(said)
            async with asyncio.timeout(LIMIT_S):
                said = await works(server_type, client_type, tls)
            assert said == "", f"after {where}: {said}"
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == tasks, f"{where}: {asyncio.all_tasks()}"
            left = descriptors() - before
            if left:
                gc.collect()
                await asyncio.sleep(0.1)
                left = descriptors() - before
            assert not left, f"{where}: {left}"
        counts[name] = failed, told
    # The loop reports only its own errors: a selector that refuses a socket, or an `accept` that raised.
    for report in reports:
        assert isinstance(report.get("exception"), (OSError, MemoryError)), report
    return counts


def main() -> None:
    server_type, client_type = {"ws": (WsServer, WsClient), "tcp": (Server, Client)}[sys.argv[1]]
    logging.disable(logging.ERROR)
    warnings.simplefilter("error")
    sys.unraisablehook = lambda trouble: unraisable.append(f"{now[0]}: {trouble.exc_value!r}")
    factory = None
    if sys.argv[3] == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        counts = runner.run(sweep(server_type, client_type, sys.argv[2]))
    # The transport's class warns if its constructor fails, before anything can close it.
    assert not [trouble for trouble in unraisable if "unclosed SelectorSocketTransport" not in trouble], (
        unraisable
    )
    print({name: count for name, count in counts.items() if count[0]})


if __name__ == "__main__":
    main()
