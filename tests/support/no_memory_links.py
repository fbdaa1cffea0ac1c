"""Failing allocations while servers and clients work: in each call, and in each callback of the loop.

Whichever allocation fails, the call must return, or raise a MemoryError or an error of the library. A
connection that cannot continue must be closed, and the others must get every value in order. After that, with
memory, everything must work, and no socket, task or object may be left.
"""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found]
import asyncio
import contextlib
import functools
import gc
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from no_memory import clear_last_resort, hold_code

from deli_com import (
    Client,
    Codec,
    ComError,
    ConnectionClosed,
    Server,
    WsClient,
    WsServer,
    u32,
)
from deli_com.net import transports

KINDS: dict[str, tuple[Any, Any]] = {"ws": (WsServer, WsClient), "tcp": (Server, Client)}
CALM = 12  # so many successes in a row: no allocation of the call is left to fail
WIDTHS = (1, 30)  # so many allocations fail, in a row
TURN_S = 5.0  # nothing needs as long


class Message(Codec, sealed=True):
    pass


class Text(Message):
    number: u32
    text: str


class Pose(Message, policy="latest", key="id", retain=True):
    id: u32
    number: u32


class Trouble(AssertionError):
    """Something is not as it must be."""


def is_of_memory(error: BaseException | None) -> bool:
    """Whether it is a MemoryError, or what picows and aiofastnet make of one."""
    lost = isinstance(error, SystemError) and str(error) == "error return without exception set"
    return lost or isinstance(error, (MemoryError, AssertionError))


class Told:
    """What the loop and the interpreter were told: only ever of missing memory."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.last = ""
        self.count = 0

    def loop(self, loop: Any, context: dict[str, Any]) -> None:
        self._look(context.get("exception"), str(context.get("message")))

    def unraisable(self, args: Any) -> None:
        self._look(args.exc_value if args.exc_value is not None else args.exc_type(), str(args.err_msg))

    def _look(self, error: BaseException | None, message: str) -> None:
        self.count += 1
        self.last = f"{message}: " + "".join(traceback.format_exception(error, limit=-9, chain=False))[-1500:]
        if not is_of_memory(error) and not isinstance(error, (ComError, type(None))):
            self.wrong.append(f"{message}: {error!r}")


@contextlib.contextmanager
def without_memory(first: int, width: int) -> Iterator[None]:
    """The allocation `first` and those behind it fail, `width` in all; 0: all."""
    _testcapi.set_nomemory(first, first + width if width else 0)
    try:
        yield
    finally:
        _testcapi.remove_mem_hooks()


class Links:
    """A server, a client that stays, and all that is called on them."""

    def __init__(self, kind: str, loop: asyncio.AbstractEventLoop) -> None:
        self.bound, self.connecting = KINDS[kind]
        self.loop = loop
        self.told = Told()
        self.number = 0
        self.calls = self.failures = self.closed = self.stuck = 0
        loop.set_exception_handler(self.told.loop)
        sys.unraisablehook = self.told.unraisable

    async def open(self) -> None:
        self.server = await self.bound[Message, Message].bind("127.0.0.1:0", max_clients=20)
        self.addr = self.server.local_addr()
        self.server.send_nowait(Pose(0, 0))
        self.group = self.server.group("g")
        await self.join()

    async def join(self) -> None:
        self.client = await self.connecting[Message, Message].connect(self.addr)
        await self.server.watchers.until_at_most(lambda: self.server.client_count() == 1, TURN_S)
        (self.peer,) = self.server.clients
        self.group.add(self.peer)

    async def close(self) -> None:
        await self.client.close()
        await self.server.close()

    def text(self) -> Text:
        self.number += 1
        return Text(self.number, "x" * (self.number % 50))

    async def check(self) -> None:
        """All works: what is sent arrives, whether on the old connection or a new one."""
        try:
            await self.check_values()
        except ConnectionClosed:
            self.closed += 1
            await self.client.close()
            async with asyncio.timeout(TURN_S):
                while self.server._connections():  # noqa: ASYNC110 - any condition
                    await asyncio.sleep(0.001)
            self.client = self.peer = None
            await self.join()
            await self.check_values()

    async def check_values(self) -> None:
        """What was sent arrives at both ends, in order, and nobody else is left connected."""
        for sends, takes in (
            (self.server, self.client),
            (self.client, self.server),
            (self.peer, self.client),
        ):
            last = self.text()
            sends.send_nowait(last)
            before = 0
            while True:
                value = await asyncio.wait_for(takes.recv(), TURN_S)
                if isinstance(value, Text):
                    if value.number < before:
                        raise Trouble(f"{value} came after {before}")
                    before = value.number
                    if value.text != "x" * (value.number % 50):
                        raise Trouble(f"{value} was not sent")
                    if value == last:
                        break
        async with asyncio.timeout(TURN_S):
            while len(self.server._connections()) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    # --- calls that return at once ---

    def sweep_call(self, name: str, call: Callable[[], Any], *allowed: type[BaseException]) -> None:
        for width in WIDTHS:
            calm = k = 0
            while calm < CALM:
                trouble = self.loop.run_until_complete(self._failing_call(call, k, width))
                if isinstance(trouble, MemoryError):
                    calm = 0
                elif trouble is None or isinstance(trouble, (ComError, *allowed)):
                    calm += 1
                else:
                    raise Trouble(f"{name}, k = {k}, {width}: {trouble!r}") from trouble
                trouble = None
                self._check(f"{name}, k = {k}, {width}")
                k += 1
                if k > 3000:
                    raise Trouble(f"{name} never succeeds")

    async def _failing_call(self, call: Callable[[], Any], k: int, width: int) -> BaseException | None:
        self.calls += 1
        trouble: BaseException | None = None
        try:
            with without_memory(k, width):
                result = call()
            if hasattr(result, "close"):
                result.close()  # what would be awaited
        except BaseException as error:
            trouble = error
        if isinstance(trouble, MemoryError):
            self.failures += 1
        return trouble

    # --- what the loop calls ---

    def transport_of(self, server: bool) -> Any:
        """That of the connection that stays."""
        found = [made for made in MADE if not made.is_closing() and made.get_protocol() is not None]
        port = self.addr.port
        own = [t for t in found if (t.get_extra_info("sockname")[1] == port) is server]
        return own[-1]

    def sweep_callback(self, name: str, callback: str, server: bool, act: Callable[[], Any]) -> None:
        """The next call of a method of the protocol at one end, after `act`, has no memory."""
        for width in WIDTHS:
            calm = k = 0
            while calm < CALM and k < 400:
                self.calls += 1
                transport = self.transport_of(server)
                failing = Failing(transport, callback, k, width)
                self.loop.run_until_complete(self._acted(act, failing))
                failing.remove()
                calm = 0 if is_of_memory(failing.error) else calm + 1
                self.failures += calm == 0
                self._check(f"{name}, k = {k}, {width}")
                k += 1

    async def _acted(self, act: Callable[[], Any], failing: Failing) -> None:
        act()
        async with asyncio.timeout(TURN_S):
            while not failing.called:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    def sweep_accept(self, name: str) -> None:
        """The next connection is taken in without memory: it is, or ends; the next one is taken."""
        acceptor = self.server._acceptor
        for accept_loop in getattr(acceptor, "_acceptor", acceptor)._accept_loops:
            real = accept_loop._on_socket
            for width in WIDTHS:
                calm = k = 0
                while calm < CALM and k < 400:
                    self.calls += 1
                    failed = False

                    def take(sock: Any, k: int, width: int, accept_loop: Any, real: Any) -> None:
                        nonlocal failed
                        accept_loop._on_socket = real
                        try:
                            with without_memory(k, width):
                                real(sock)
                        except BaseException as error:
                            failed = is_of_memory(error)
                            raise

                    accept_loop._on_socket = functools.partial(
                        take, k=k, width=width, accept_loop=accept_loop, real=real
                    )
                    self.loop.run_until_complete(self._one_more())
                    calm = 0 if failed else calm + 1
                    self.failures += failed
                    self._check(f"{name}, k = {k}, {width}")
                    k += 1

    def sweep_steps(self, name: str, work: Callable[[], Any], steps: int) -> None:
        """Each of the first `steps` steps of a coroutine, in turn, has no memory."""
        for width in WIDTHS:
            for step in range(steps):
                calm = k = 0
                while calm < CALM and k < 600:
                    self.calls += 1
                    stepping = Stepping(work(), step, k, width)
                    stuck = self.stuck
                    trouble = self.loop.run_until_complete(self._outcome(stepping))
                    if self.stuck > stuck:
                        print(f"stuck: {name}, step {step}, k = {k}, {width}", file=sys.stderr, flush=True)
                    calm = 0 if stepping.failed else calm + 1
                    self.failures += stepping.failed
                    if not is_of_memory(trouble) and not isinstance(trouble, (ComError, OSError, type(None))):
                        raise Trouble(f"{name}, step {step}, k = {k}, {width}: {trouble!r}") from trouble
                    trouble = None
                    self._check(f"{name}, step {step}, k = {k}, {width}")
                    k += 1

    async def _outcome(self, work: Any) -> BaseException | None:
        try:
            async with asyncio.timeout(2):
                await work
        except TimeoutError as error:
            self.stuck += 1
            waits = "".join(traceback.format_exception(error.__cause__, chain=False))
            print(f"it waits for ever, {waits}; told at last: {self.told.last}", file=sys.stderr, flush=True)
            return None
        except BaseException as error:
            return error
        return None

    async def _one_more(self) -> None:
        trouble = await self._outcome(self.one_more())
        if trouble is not None and not isinstance(trouble, (ComError, OSError)):
            raise trouble

    async def one_more(self) -> None:
        """A second client comes, gets what is retained, and goes."""
        async with self.connecting[Message, Message].connect(self.addr) as other:
            await other.recv()

    def _check(self, name: str) -> None:
        clear_last_resort()
        try:
            self.loop.run_until_complete(self.check())
        except BaseException as error:
            acceptor = self.server._acceptor
            state = (
                self.server._connections(),
                [*map(repr, getattr(acceptor, "_acceptor", acceptor).__dict__.items())][:-1],
                self.client,
            )
            raise Trouble(f"after {name}: {error!r}; {state}; told at last: {self.told.last}") from error
        if self.told.wrong:
            raise Trouble(f"{name}: {self.told.wrong}")


def calls_of(links: Links) -> dict[str, Callable[[], Any]]:
    """All that returns at once, by name."""
    server, group = links.server, links.group
    return {
        "server.send_nowait": lambda: server.send_nowait(links.text()),
        "server.send_nowait of a key": lambda: server.send_nowait(Pose(1, links.number)),
        "server.send_nowait of new keys": lambda: server.send_nowait(Pose(links.calls, links.number)),
        "server.send_nowait of megabytes": lambda: server.send_nowait(Text(0, "y" * 2_000_000)),
        "server.send": lambda: server.send(links.text()),
        "server.send_nowait except_": lambda: server.send_nowait(links.text(), except_=links.peer),
        "peer.send_nowait": lambda: links.peer.send_nowait(links.text()),
        "peer.send": lambda: links.peer.send(links.text()),
        "group.send_nowait": lambda: group.send_nowait(links.text()),
        "group.send": lambda: group.send(links.text()),
        "group.add": lambda: server.group("h").add(links.peer),
        "group.discard": lambda: server.group("h").discard(links.peer),
        "group.members": lambda: group.members,
        "server.group": lambda: server.group(f"new {links.calls}"),
        "server.forget": lambda: server.forget(1),
        "group.forget": lambda: group.forget(1),
        "server.flush": server.flush,
        "server.stats": server.stats,
        "peer.stats": lambda: links.peer.stats(),
        "client.stats": lambda: links.client.stats(),
        "server.clients": lambda: server.clients,
        "server.recv": server.recv,
        "server.recv, its first step": lambda: first_step(server.recv()),
        "server.recv_many": lambda: first_step(server.recv_many(3)),
        "server.recv_from": lambda: first_step(server.recv_from()),
        "client.send_nowait": lambda: links.client.send_nowait(links.text()),
        "client.send": lambda: links.client.send(links.text()),
        "client.flush": lambda: links.client.flush(),
        "client.recv": lambda: links.client.recv(),
        "repr": lambda: (
            repr(server),
            repr(links.client),
            repr(links.peer),
            repr(group),
            repr(server.stats()),
        ),
        "local_addr": lambda: (server.local_addr(), server.local_addrs(), links.peer.remote_addr),
    }


def first_step(awaitable: Any) -> Any:
    """One that waits; the caller closes it."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration:
        return None
    except BaseException:
        awaitable.close()
        raise
    return awaitable


class Failing(asyncio.BufferedProtocol):
    """Stands before the protocol of a transport: the next call of one method has no memory."""

    def __init__(self, transport: Any, method: str, k: int, width: int) -> None:
        self.transport, self.method, self.k, self.width = transport, method, k, width
        self.real = transport.get_protocol()
        self.called = False
        self.error: BaseException | None = None
        transport.set_protocol(self)

    def remove(self) -> None:
        if not self.transport.is_closing():
            self.transport.set_protocol(self.real)

    def _pass_on(self, method: str, *args: Any) -> Any:
        function = getattr(self.real, method)
        if method != self.method or self.called:
            return function(*args)
        self.called = True
        try:
            with without_memory(self.k, self.width):
                return function(*args)
        except BaseException as error:
            self.error = error
            raise

    def get_buffer(self, sizehint: int) -> Any:
        return self._pass_on("get_buffer", sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self._pass_on("buffer_updated", nbytes)

    def eof_received(self) -> Any:
        return self._pass_on("eof_received")

    def connection_lost(self, exc: Exception | None) -> None:
        self._pass_on("connection_lost", exc)

    def pause_writing(self) -> None:
        self._pass_on("pause_writing")

    def resume_writing(self) -> None:
        self._pass_on("resume_writing")


class Stepping:
    """Awaits something; one of its steps has no memory."""

    def __init__(self, work: Any, step: int, k: int, width: int) -> None:
        self.work, self.step, self.k, self.width = work, step, k, width
        self.failed = False

    def __await__(self) -> Any:
        steps = self.work.__await__()
        advance: Callable[..., Any] = steps.send
        given: Any = None
        number = 0
        while True:
            try:
                if number == self.step:
                    with without_memory(self.k, self.width):
                        waited = advance(given)
                else:
                    waited = advance(given)
            except StopIteration as stop:
                return stop.value
            except BaseException as error:
                self.failed = is_of_memory(error)
                raise
            number += 1
            try:
                given = yield waited
                advance = steps.send
            except BaseException as error:
                advance, given = steps.throw, error


MADE: list[Any] = []


def record_transports() -> None:
    """Note every transport that is made, in MADE."""
    real = transports.SelectorSocketTransport

    def made(*args: Any) -> Any:
        MADE[:] = [one for one in MADE if one.get_protocol() is not None]
        MADE.append(real(*args))
        return MADE[-1]

    transports.SelectorSocketTransport = made


def sweeps_of(links: Links) -> dict[str, Callable[[], None]]:
    """All that the loop calls, and steps of what is awaited, by name."""

    def downwards() -> None:
        links.server.send_nowait(links.text())

    def upwards() -> None:
        links.client.send_nowait(links.text())

    async def recv() -> None:
        links.server.send_nowait(links.text())
        await links.client.recv()

    async def recv_first() -> None:
        receiving = links.client.recv()
        links.loop.call_soon(downwards)
        await receiving

    async def send() -> None:
        for _ in range(3):
            await links.server.send(links.text())

    async def stream() -> None:
        async with links.connecting[Message, Message].stream(links.addr, first_delay=0.001) as values:
            async for _ in values:
                break

    def cut_client() -> None:
        for connection in links.client._connections():
            connection._abort()

    def cut_peer() -> None:
        for connection in links.server._connections():
            connection._abort()

    found: dict[str, Callable[[], None]] = {
        "a value arrives at the server": lambda: links.sweep_callback("up", "buffer_updated", True, upwards),
        "a value arrives at the client": lambda: links.sweep_callback(
            "down", "buffer_updated", False, downwards
        ),
        "a client is lost": lambda: links.sweep_callback("lost", "connection_lost", True, cut_client),
        "a server is lost": lambda: links.sweep_callback("lost", "connection_lost", False, cut_peer),
        "accept": lambda: links.sweep_accept("accept"),
        "connect": lambda: links.sweep_steps("connect", links.one_more, 2),
        "recv": lambda: links.sweep_steps("recv", recv, 2),
        "recv that waits": lambda: links.sweep_steps("recv that waits", recv_first, 2),
        "send": lambda: links.sweep_steps("send", send, 2),
    }
    if hasattr(links.connecting, "stream"):
        found["stream"] = lambda: links.sweep_steps("stream", stream, 1)
    return found


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def objects() -> dict[str, int]:
    """How many objects of each class of ours live."""
    MADE[:] = [one for one in MADE if one.get_protocol() is not None]
    gc.collect()
    counts: dict[str, int] = {}
    for thing in gc.get_objects():
        module = str(type(thing).__module__)
        if module.startswith(("deli_com", "aiofastnet", "picows", "asyncio")):
            name = f"{module}.{type(thing).__qualname__}"
            counts[name] = counts.get(name, 0) + 1
    return counts


def more_than(before: dict[str, int]) -> dict[str, int]:
    after = objects()
    for name in ("deli_com.log.ring.Key", "asyncio.events.TimerHandle"):  # were asked for; wait in a heap
        after.pop(name, None)
    if (3, 12) <= sys.version_info < (3, 14):
        # CPython 3.12.1 and 3.13.0 leak the traceback of a MemoryError that passes dataclasses' own `repr`.
        after.pop("deli_com.link.stats.ServerStats", None)
    return {
        name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0) + 3
    }


def main(kind: str, part: str, wanted: str = "") -> None:
    warnings.simplefilter("ignore", ResourceWarning)
    logging.disable(logging.CRITICAL)
    record_transports()
    loop = asyncio.SelectorEventLoop()
    asyncio.set_event_loop(loop)
    links = Links(kind, loop)
    loop.run_until_complete(links.open())
    links._check("nothing")
    hold_code(1 << 20)
    before_files, before = open_files(), objects()
    if part == "calls":
        for name, call in calls_of(links).items():
            if wanted in name:
                print(name, file=sys.stderr, flush=True)
                links.sweep_call(name, call)
    else:
        for name, sweep in sweeps_of(links).items():
            if wanted in name:
                print(name, file=sys.stderr, flush=True)
                sweep()
    links._check("all")
    for _ in range(100):  # connections that are closed by one end linger for the other
        grown = more_than(before)
        if not grown or part != "calls":
            break
        loop.run_until_complete(asyncio.sleep(0.1))
    if grown and part == "calls":
        raise Trouble(f"left behind: {grown}")
    if open_files() != before_files:
        raise Trouble(f"{before_files} descriptors were open, now {open_files()}")
    loop.run_until_complete(links.close())
    loop.close()
    print(links.calls, links.failures, links.closed, links.stuck)


if __name__ == "__main__":
    main(*sys.argv[1:])
