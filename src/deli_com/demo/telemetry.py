"""The message types of the demo, and the sampler that reads this machine."""

from __future__ import annotations

import time
from array import array
from typing import Any

import psutil

from deli_com import Array, Codec, f32, u32, u64

RATE_HZ = 100  # samples broadcast a second


class Telemetry(Codec):
    """One sample, from the server to every client."""

    seq: u64  # 0, 1, 2, ... without a gap
    sent_ns: u64  # time.monotonic_ns() of the server: one clock for all processes of a machine
    cores: Array[f32]  # load of each core, percent
    memory_used: u64  # bytes
    memory_total: u64  # bytes
    net_sent: u64  # bytes since boot, all interfaces
    net_received: u64
    last: bool  # no sample follows; the client answers with its final report


class Report(Codec):
    """What one client has seen so far, from that client to the server."""

    client: u32  # its number, 0 to clients - 1
    stamp_ns: u64  # time.monotonic_ns() of the client
    received: u64  # messages
    payload: u64  # bytes of those messages
    lost: u64  # messages missing from the sequence
    disordered: u64  # messages that came after a later one, or twice
    p50_us: f32  # one-way latency over the last messages, microseconds
    p99_us: f32
    latest: Telemetry  # as decoded by the client
    final: bool


class Sampler:
    """Reads the values of this machine, a few at each call.

    psutil takes a fraction of a millisecond for a group of values, and more with many cores. The kernel
    counts load in ticks of 10 ms. Reading all values 100 times a second would give nothing new, and could
    delay a sample. So each group is read every `_EVERY` samples, no two in the same sample, and repeated in
    between.
    """

    _EVERY = 20  # samples; at 100 Hz each group is new five times a second

    def __init__(self) -> None:
        psutil.cpu_percent(percpu=True)  # the first call has no interval to measure
        self._cores = array("f", [0.0] * (psutil.cpu_count() or 1))
        self._read_memory()
        self._read_network()
        self._seq = 0

    def _read_cores(self) -> None:
        self._cores = array("f", psutil.cpu_percent(percpu=True))

    def _read_memory(self) -> None:
        memory = psutil.virtual_memory()
        self._memory_used = memory.total - memory.available
        self._memory_total = memory.total

    def _read_network(self) -> None:
        # None (unlike in the stubs) on a machine without interfaces, such as some containers.
        counters: Any = psutil.net_io_counters()
        self._net_sent = counters.bytes_sent if counters else 0
        self._net_received = counters.bytes_recv if counters else 0

    def sample(self, *, last: bool = False) -> Telemetry:
        """The next sample, with the time of this call."""
        turn = self._seq % self._EVERY
        if turn == 5:
            self._read_cores()
        elif turn == 10:
            self._read_memory()
        elif turn == 15:
            self._read_network()
        sample = Telemetry(
            seq=self._seq,
            sent_ns=time.monotonic_ns(),
            cores=self._cores,
            memory_used=self._memory_used,
            memory_total=self._memory_total,
            net_sent=self._net_sent,
            net_received=self._net_received,
            last=last,
        )
        self._seq += 1
        return sample
