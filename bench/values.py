"""The typed values of the benches."""

from __future__ import annotations

from deli_com import Codec, f64, u32, u64


class Sample(Codec):
    """64 bytes on the wire, so that typed rows compare with 64 raw bytes."""

    stamp: u64
    seq: u64
    x: f64
    y: f64
    z: f64
    vx: f64
    vy: f64
    vz: f64


class Packet(Codec):
    """64 bytes on the wire too: two numbers and 48 bytes."""

    stamp: u64
    seq: u32
    data: bytes


class Reading(Codec):
    """The five fields of the micro rows."""

    stamp: u64
    x: f64
    y: f64
    count: u32
    good: bool


# What bench/evolved.py has two versions of.
CASES = ("order", "skipped", "defaults", "wider", "list of structs", "sealed", "rows")
