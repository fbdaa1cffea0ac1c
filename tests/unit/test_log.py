"""The broadcast log against a list of bytes: appending, cursors, retention. No sockets."""

from __future__ import annotations

import os
import random
import struct

import pytest
from peers import build

LARGE = 32768  # LARGE_BYTES of log/log.pxd
SLAB = 262144  # SLAB_BYTES


def unmask(data: bytes) -> tuple[bytes, int]:
    """Payload and size of the masked frame at the start of `data`."""
    size, at = data[1] & 0x7F, 2
    assert data[0] == 0x82 and data[1] & 0x80
    if size == 126:
        size, at = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, at = int.from_bytes(data[2:10], "big"), 10
    mask = data[at : at + 4] * (size // 4 + 1)
    body = data[at + 4 : at + 4 + size]
    return bytes(a ^ b for a, b in zip(body, mask, strict=False)), at + 4 + size


SIZES = (0, 1, 125, 126, 127, LARGE - 1, LARGE, LARGE + 1, 65535, 65536, SLAB, SLAB + 1)


class TestAppend:
    @pytest.mark.parametrize("size", SIZES)
    def test_frames_each_size_as_the_rfc_says(self, probe, size):
        log = probe.ProbeLog()
        log.pin("all")
        payload = os.urandom(size)
        log.append(payload)
        assert log.read("all", log.end) == build(payload)

    @pytest.mark.parametrize("size", SIZES)
    def test_tcp_frames_are_a_little_endian_length_and_the_payload(self, probe, size):
        log = probe.ProbeLog("tcp")
        log.pin("all")
        payload = os.urandom(size)
        log.append(payload)
        assert log.read("all", log.end) == struct.pack("<I", size) + payload

    @pytest.mark.parametrize("size", (*SIZES, 3, 8, 13))
    def test_client_frames_are_masked_with_a_fresh_key(self, probe, size):
        log = probe.ProbeLog("ws-client")
        log.pin("all")
        payload = os.urandom(size)
        log.append(payload)
        log.append(payload)
        data = log.read("all", log.end)
        first, used = unmask(data)
        second, rest = unmask(data[used:])
        assert first == second == payload and used + rest == len(data)
        assert data[:used] != data[used:], "two frames with one mask"

    def test_masking_leaves_the_senders_bytes_alone(self, probe):
        log = probe.ProbeLog("ws-client")
        payload = bytes(100_000)
        log.append(payload)
        log.write([], tail=payload)
        assert payload == bytes(100_000)

    def test_a_large_payload_is_kept_by_reference(self, probe):
        log = probe.ProbeLog()
        log.pin("all")
        payload = os.urandom(1 << 20)
        log.append(payload)
        assert log.pieces("all", 10, log.end)[0] is payload

    def test_a_tail_of_the_cursor_is_kept_by_reference_behind_its_prefix(self, probe):
        log = probe.ProbeLog()
        log.pin("all")
        tail = os.urandom(LARGE)
        log.write([b"prefix"], tail=tail)
        assert log.read("all", log.end) == build(b"prefix" + tail)
        assert log.pieces("all", log.end - LARGE, log.end)[0] is tail

    @pytest.mark.parametrize("hint", (-1, 10))
    def test_a_value_that_outgrows_the_slab_is_moved_whole(self, probe, hint):
        log = probe.ProbeLog()
        log.pin("all")
        parts = [os.urandom(n) for n in (9, 7000, 30_000, 5, 200_000, 1, 400_000)]
        log.write(parts, hint)
        assert log.read("all", log.end) == build(b"".join(parts))

    def test_a_size_hint_on_either_side_of_a_header_class_only_costs_a_move(self, probe):
        log = probe.ProbeLog()
        log.pin("all")
        expected = b""
        for hint, size in ((125, 125), (126, 125), (-1, 3), (4000, 126), (LARGE, LARGE), (0, 0)):
            payload = os.urandom(size)
            log.write([payload], hint)
            expected += build(payload)
        assert log.read("all", log.end) == expected

    def test_an_abandoned_frame_leaves_no_trace(self, probe):
        log = probe.ProbeLog()
        log.pin("all")
        log.append(b"before")
        for parts, tail in (([b"half"], None), ([b"x" * 100_000], None), ([b"p"], b"t" * LARGE)):
            log.write(parts, tail=tail, commit=False)
        log.append(b"after")
        assert log.read("all", log.end) == build(b"before") + build(b"after")

    def test_a_second_open_frame_is_refused(self, probe):
        log = probe.ProbeLog()
        with pytest.raises(RuntimeError, match="a frame is open"):
            log.open_twice()
        log.append(b"fine")

    def test_an_unknown_framing_is_refused(self, probe):
        with pytest.raises(ValueError, match="ws-server, ws-client, tcp"):
            probe.ProbeLog("udp")


class TestCursors:
    def test_a_frame_end_is_found_from_every_offset(self, probe):
        rng = random.Random(7)
        log = probe.ProbeLog()
        log.pin("all")
        ends = []
        for _ in range(400):
            size = rng.choice((0, 3, 125, 126, 700, LARGE - 1, LARGE, 70_000))
            log.append(bytes(size))
            ends.append(log.end)
        for _ in range(2000):
            offset = rng.randrange(1, log.end + 1)
            assert log.frame_end("all", offset) == next(end for end in ends if end >= offset)

    def test_whole_frames_are_gathered_up_to_a_number_of_bytes(self, probe):
        log = probe.ProbeLog()
        log.pin("all")
        ends = [0]
        for size in (10, 20, 30, 70_000, 5):
            log.append(bytes(size))
            ends.append(log.end)
        assert log.frames_within("all", log.end, 1) == ends[1], "one at the least"
        assert log.frames_within("all", log.end, ends[2]) == ends[2]
        assert log.frames_within("all", log.end, ends[3] + 100) == ends[3]
        assert log.frames_within("all", ends[2], 1 << 20) == ends[2], "none beyond the limit"

    def test_vectors_end_at_a_frame_where_room_is_short(self, probe):
        log = probe.ProbeLog()
        log.pin("all")
        expected = b""
        for _ in range(10):
            payload = os.urandom(LARGE)
            log.append(payload)
            expected += build(payload)
        size = len(build(bytes(LARGE)))
        assert log.read("all", log.end, 3) == expected[:size], "header, body, and a header that stays"
        assert log.read("all", log.end, 4) == expected[: 2 * size]

    def test_pieces_copy_what_lies_in_slabs(self, probe):
        log = probe.ProbeLog()
        log.pin("all")
        log.append(b"abc")
        pieces = log.pieces("all", 1, log.end)
        for _ in range(3):
            log.append(bytes(SLAB // 2 - 100))
        assert pieces == [build(b"abc")[1:]]


class TestRetention:
    def test_a_drained_log_writes_into_the_same_memory_again(self, probe):
        log = probe.ProbeLog()
        for _ in range(10_000):
            log.append(bytes(1000))
            log.trim(log.end)
        assert log.log.slabs == 1

    def test_memory_follows_the_slowest_cursor_and_is_given_back(self, probe):
        log = probe.ProbeLog()
        log.pin("slow")
        for _ in range(5000):
            log.append(bytes(1000))
            log.trim(log.end)
        held = log.log.slabs
        assert log.head == 0 and held * SLAB >= 5_000_000
        log.move("slow", log.end)
        log.append(b"x")
        log.trim(log.end)
        log.unpin("slow")
        log.trim(log.end)
        assert log.log.slabs <= 6, "the current one, its predecessor and the spare ones"
        assert log.head == log.end

    def test_a_place_at_the_end_of_an_empty_log_keeps_what_comes_next(self, probe):
        log = probe.ProbeLog()
        log.append(b"old")
        log.trim(log.end)
        log.pin("new")
        log.append(b"kept")
        log.trim(log.end)
        assert log.read("new", log.end) == build(b"kept")
        log.unpin("new")
        log.trim(log.end)
        assert log.head == log.end

    def test_random_appends_reads_moves_and_trims_equal_a_list_of_bytes(self, probe):
        for seed in range(60):
            self.model(probe, random.Random(seed))

    def model(self, probe, rng):
        log = probe.ProbeLog()
        stream = bytearray()
        bounds = [0]
        places: dict[str, int] = {}
        for step in range(300):
            choice = rng.random()
            if choice < 0.5:
                size = rng.choice((0, 5, 100, 126, 3000, LARGE - 1, LARGE, 100_000))
                payload = rng.randbytes(size)
                if rng.random() < 0.5:
                    cut = rng.randrange(size + 1)
                    log.write([payload[:cut]], tail=payload[cut:])
                else:
                    log.append(payload)
                stream += build(payload)
                bounds.append(len(stream))
            elif choice < 0.6:
                places[f"p{step}"] = len(stream)
                log.pin(f"p{step}")
            elif choice < 0.8 and places:
                name = rng.choice(list(places))
                offset = rng.choice([bound for bound in bounds if bound >= places[name]])
                log.move(name, offset)
                places[name] = offset
            elif choice < 0.85 and places:
                name = rng.choice(list(places))
                del places[name]
                log.unpin(name)
            elif choice < 0.95:
                log.trim(log.end)
            for name, offset in places.items():
                if rng.random() < 0.1:
                    assert log.head <= offset, "freed under a pin"
                    limit = rng.choice([bound for bound in bounds if bound >= offset])
                    data = log.read(name, limit)
                    assert data == stream[offset : offset + len(data)]
                    assert offset + len(data) in bounds
        assert log.end == len(stream)
        for name in places:
            log.unpin(name)
        log.trim(log.end)
        assert log.head == log.end and log.log.slabs <= 5
