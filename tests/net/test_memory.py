"""Memory is limited whatever receivers do: peak resident sizes of servers in separate processes."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import PLAIN_HEAD, SLOW
from peers import BINARY, CLOSE, PING, build

PROGRAM = Path(__file__).with_name("broadcast_program.py")
MB = 1_000_000
MESSAGES = 200
READERS, PROCESSES = 20, 4
LIMIT = 64 * MB
ALIKE = 16 * MB
MAX_BACKLOG = 16 << 20
PROGRESS_S = {"disconnect": 10.0, "wait": 2.0}
# docs/policies.md: a message that is partly sent is held until its client has it. That is one for each
# reader, and a few for all stalled clients, which stopped at about the same time.
IN_FLIGHT = (READERS + 4) * MB
BOUND = {
    "disconnect": MAX_BACKLOG + IN_FLIGHT,
    "wait": MAX_BACKLOG + IN_FLIGHT,
    "skip": MAX_BACKLOG + IN_FLIGHT,
    "latest": MB + IN_FLIGHT,
}

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
)


class Program:
    """One running broadcast_program.py."""

    def __init__(self, role: str, **settings: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), role, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{PROGRAM.name} ended with {self.process.wait()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def dismiss(self) -> None:
        """Let it end by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def running(role: str, **settings: Any) -> Iterator[Program]:
    program = Program(role, **settings)
    try:
        yield program
    finally:
        program.end()


@contextlib.contextmanager
def stalled_client(address: list[Any]) -> Iterator[socket.socket]:
    """A client that has shaken hands and reads nothing more."""
    with socket.create_connection(tuple(address)) as sock:
        sock.settimeout(30 * SLOW)
        sock.sendall(PLAIN_HEAD)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)  # byte by byte: what follows the answer stays unread
        assert answer.startswith(b"HTTP/1.1 101 ")
        yield sock


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(size - len(data), 1 << 18))
        assert piece, "the stream ended"
        data += piece
    return bytes(data)


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    """First byte and payload of the next frame; PINGs, which a slow machine brings about, are passed over."""
    first, size = read_exactly(sock, 2)
    if size == 126:
        (size,) = struct.unpack("!H", read_exactly(sock, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", read_exactly(sock, 8))
    payload = read_exactly(sock, size)
    return read_frame(sock) if first == 0x80 | PING else (first, payload)


def read_to_close(sock: socket.socket) -> tuple[int, int, str]:
    """How many binary frames came before CLOSE, and its code and reason."""
    count = 0
    while True:
        first, payload = read_frame(sock)
        if first == 0x80 | CLOSE:
            return count, struct.unpack("!H", payload[:2])[0], payload[2:].decode()
        assert first == 0x80 | BINARY
        count += 1


def read_numbers(sock: socket.socket, last: int) -> list[int]:
    """The numbers of the messages of kind bytes up to `last`."""
    numbers: list[int] = []
    while not numbers or numbers[-1] < last:
        first, payload = read_frame(sock)
        assert (first, len(payload)) == (0x80 | BINARY, MB)
        numbers.append(struct.unpack_from("<I", payload, 4)[0])
    return numbers


def broadcast(kind: str, stalled: int, *, messages: int = MESSAGES, **options: Any) -> dict[str, Any]:
    """Awaited messages of 1 MB to twenty clients that read and to some that do not.

    What those got that did not is read once everything was sent: under ``stalled`` up to CLOSE, or
    under ``numbers`` up to the last message where no policy closes them.
    """
    never_closes = options.get("slow_client") in ("skip", "latest")
    settings = {"kind": kind, "messages": messages}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            running("server", readers=READERS, stalled=stalled, options=options, **settings)
        )
        address = server.hear()["address"]
        silent = [stack.enter_context(stalled_client(address)) for _ in range(stalled)]
        readers = [
            stack.enter_context(running("clients", address=address, clients=READERS // PROCESSES, **settings))
            for _ in range(PROCESSES)
        ]
        found = server.hear()
        for reader in readers:
            reader.dismiss()
        found["received"] = [count for reader in readers for count in reader.hear()["received"]]
        if never_closes:
            found["numbers"] = [read_numbers(sock, messages - 1) for sock in silent]
        elif "max_backlog" not in options:
            found["stalled"] = [read_to_close(sock) for sock in silent]
        server.dismiss()
    return found


class TestStalledClients:
    @pytest.mark.parametrize("kind", ["bytes", "array"])
    def test_one_that_never_reads_among_twenty_that_do(self, kind: str) -> None:
        """The twenty get everything in bounded memory, the one is closed with 1013 and a warning."""
        found = broadcast(kind, 1)
        assert found["received"] == [MESSAGES] * READERS
        assert found["clients"] == READERS
        assert found["growth"] < LIMIT
        ((frames, code, reason),) = found["stalled"]
        assert code == 1013
        cause = r"too slow: \d{8} bytes queued, limit 16777216, behind for \d+\.\d s"
        assert re.fullmatch(cause, reason)
        assert frames < MESSAGES
        (warning,) = found["warnings"]
        assert re.fullmatch(rf"deli_com\.server: closing 127\.0\.0\.1:\d+ \(1013\): {cause}", warning)

    @pytest.mark.parametrize("policy", ["disconnect", "wait"])
    def test_forty_cost_what_four_do(self, policy: str) -> None:
        """What they lag behind is kept once, not once a client; waited for or not, all are closed."""
        few, many = (
            broadcast("bytes", stalled, slow_client=policy, progress_timeout=PROGRESS_S[policy])
            for stalled in (4, 40)
        )
        cause = {"disconnect": "too slow: ", "wait": "no progress for "}[policy]
        for found, stalled in ((few, 4), (many, 40)):
            assert found["received"] == [MESSAGES] * READERS
            assert found["clients"] == READERS
            assert found["growth"] < BOUND[policy]
            assert len(found["warnings"]) == stalled
            assert [code for _, code, _ in found["stalled"]] == [1013] * stalled
            assert all(reason.startswith(cause) for *_, reason in found["stalled"])
            assert (found["longest"] > PROGRESS_S["wait"]) is (policy == "wait")
        assert abs(many["growth"] - few["growth"]) < ALIKE

    @pytest.mark.parametrize("policy", ["skip", "latest"])
    def test_forty_cost_what_four_do_and_nobody_is_closed(self, policy: str) -> None:
        """Each gets what its kernel took, then the last 16 MiB, or the newest message alone."""
        few, many = (broadcast("bytes", stalled, slow_client=policy) for stalled in (4, 40))
        for found, stalled in ((few, 4), (many, 40)):
            assert found["clients"] == READERS + stalled
            assert found["warnings"] == []
            assert found["growth"] < BOUND[policy]
            for numbers in found["numbers"]:
                assert numbers == sorted(set(numbers))
                seam = next(i for i in range(MESSAGES) if numbers[i] != i)  # what its kernel took ends here
                window = MAX_BACKLOG // (MB + 10) if policy == "skip" else 1
                assert numbers[seam:] == list(range(MESSAGES - window, MESSAGES))
            # Readers are not waited for, either. The messages that they missed are counted once they have
            # passed them.
            assert found[{"skip": "skipped", "latest": "superseded"}[policy]] == sum(
                MESSAGES - received for received in found["received"]
            )
            assert found["skipped" if policy == "latest" else "superseded"] == 0
        assert abs(many["growth"] - few["growth"]) < ALIKE

    def test_the_measurement_sees_a_backlog_without_bound(self) -> None:
        """With a limit of 1 GB the same client makes the server keep the 200 MB: the tests above can fail."""
        found = broadcast("bytes", 1, max_backlog=1 << 30, progress_timeout=60.0)
        assert found["growth"] > 2 * LIMIT
        assert found["warnings"] == []


class TestFloods:
    def test_pings_of_a_peer_that_never_reads(self) -> None:
        """40 MB of them: at most one PONG is owed, whatever was asked."""
        with running("server", kind="bytes", readers=0, stalled=2, messages=0, options={}) as server:
            address = server.hear()["address"]
            with stalled_client(address) as flooding, stalled_client(address) as other:
                server.hear()
                before = server.peak_bytes()
                pings = build(b"p" * 125, PING, mask=b"\0\0\0\0") * 500
                for _ in range(40 * MB // len(pings)):
                    flooding.sendall(pings)
                ask(other, b"still there")
                assert server.peak_bytes() - before < 8 * MB
                # It does answer, once it is read: the last PONG is for the last PING.
                flooding.sendall(build(b"last", PING, mask=b"\0\0\0\0"))
                while read_control(flooding) != b"last":
                    pass

    def test_values_that_nobody_receives(self) -> None:
        """100 MB of them: the inbox keeps 16 MiB and counts the rest."""
        with running("server", kind="bytes", readers=0, stalled=1, messages=0, options={}) as server:
            address = server.hear()["address"]
            with stalled_client(address) as peer:
                server.hear()
                before = server.peak_bytes()
                message = build(struct.pack("<I", MB - 4) + bytes(MB - 4), mask=b"\0\0\0\0")
                for _ in range(100):
                    peer.sendall(message)
                ask(peer, b"behind it")
                assert 16 * MB < server.peak_bytes() - before < 40 * MB

    def test_fragments_without_end(self) -> None:
        """Many values without payload, and values of many bytes: both end with 1009."""
        options = {"max_message_size": 8 * MB}
        with running("server", kind="bytes", readers=0, stalled=2, messages=0, options=options) as server:
            address = server.hear()["address"]
            with stalled_client(address) as empty, stalled_client(address) as large:
                server.hear()
                before = server.peak_bytes()
                for peer, piece in ((empty, b""), (large, bytes(MB))):
                    with contextlib.suppress(ConnectionError):
                        peer.sendall(build(piece, fin=False, mask=b"\0\0\0\0"))
                        for _ in range(5000 if peer is empty else 30):
                            peer.sendall(build(piece, 0, fin=False, mask=b"\0\0\0\0"))
                    assert read_to_close(peer)[1] == 1009
                assert server.peak_bytes() - before < 32 * MB

    def test_lengths_that_are_only_announced(self) -> None:
        """A head that says 64 MB, and nothing behind it, by 50 clients: nobody pays before the bytes come."""
        with running("server", kind="bytes", readers=0, stalled=51, messages=0, options={}) as server:
            address = server.hear()["address"]
            with contextlib.ExitStack() as stack:
                peers = [stack.enter_context(stalled_client(address)) for _ in range(50)]
                other = stack.enter_context(stalled_client(address))
                server.hear()
                before = server.peak_bytes()
                for peer in peers:
                    peer.sendall(b"\x82\xff" + struct.pack("!Q", 64 << 20) + b"\0\0\0\0" + b"x" * 100)
                ask(other, b"still there")
                assert server.peak_bytes() - before < 16 * MB

    @pytest.mark.parametrize(
        ("limit", "least", "most"), [(64 << 20, 32 * MB, 130 * MB), (1 << 30, 200 * MB, 400 * MB)]
    )
    def test_half_messages_of_many_clients(self, limit: int, least: int, most: int) -> None:
        """30 clients send 8 MiB of 20 each: `max_inbound` is what they cost together; without it, it is seen.

        With room for the allocator, which does not always grow a buffer in place.
        """
        options = {"max_inbound": limit}
        with running("server", kind="bytes", readers=0, stalled=31, messages=0, options=options) as server:
            address = server.hear()["address"]
            with contextlib.ExitStack() as stack:
                other, *peers = [stack.enter_context(stalled_client(address)) for _ in range(31)]
                server.hear()
                before = server.peak_bytes()
                begun = b"\x82\xff" + struct.pack("!Q", 20 << 20) + b"\0\0\0\0" + bytes(8 << 20)
                for peer in peers:
                    with contextlib.suppress(ConnectionError):
                        peer.sendall(begun)
                ask(other, b"still there")
                assert least < server.peak_bytes() - before < most


def ask(sock: socket.socket, token: bytes) -> None:
    """PING, and read its PONG: what was sent before has been read by then."""
    sock.sendall(build(token, PING, mask=b"\0\0\0\0"))
    while read_control(sock) != token:
        pass


def read_control(sock: socket.socket) -> bytes:
    """The payload of the next frame, a small one."""
    _, size = read_exactly(sock, 2)
    assert size < 126
    return read_exactly(sock, size)
