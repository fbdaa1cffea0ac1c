"""Followers of the log: rounds, cuts, limits and pacing, on socket pairs without an event loop."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rig import End, Rig

PONG = b"\x8a\x00"
LARGE = 32768
RELIABLE = 0  # as DeliveryClass has it


@pytest.fixture
def rigs(probe: Any) -> Iterator[Any]:
    made: list[Rig] = []

    def make(**limits: Any) -> Rig:
        made.append(Rig(probe, **limits))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


class TestFlush:
    def test_messages_of_one_turn_go_out_together_at_its_end(self, rigs):
        rig = rigs()
        ends = [rig.connect(buffer=1 << 16) for _ in range(9)]  # more than the few that are served at once
        for i in range(5):
            rig.hub.append(b"%d" % i)
        assert not any(end.read() for end in ends), "sent before the turn ended"
        rig.loop.turn()
        for end in ends:
            end.read()
            assert end.messages() == [b"0", b"1", b"2", b"3", b"4"]

    def test_few_followers_on_a_quiet_line_are_served_at_once(self, rigs):
        rig = rigs()
        end = rig.connect()
        rig.hub.append(b"now")
        end.read()
        assert end.messages() == [b"now"]

    @pytest.mark.parametrize("to", ["all", "group"])
    def test_a_round_that_takes_long_is_no_silence(self, rigs, to):
        """The first message of a burst goes out at once, however long that takes, and the rest together."""
        rig = rigs()
        end = rig.connect(fd=False, buffer=1 << 16)
        rounds = []
        write = end.transport.writelines

        def slowly(pieces):
            time.sleep(0.001)
            rounds.append(len(b"".join(pieces)))
            write(pieces)

        end.transport.writelines = slowly
        group = rig.hub.group()
        rig.hub.add(group, end.follower)
        for i in range(6):
            rig.hub.put(b"%d" % i, RELIABLE, None, False, None if to == "all" else group)
        rig.settle()
        assert end.messages() == [b"%d" % i for i in range(6)]
        assert rounds == [3, 15]

    def test_a_lot_of_bytes_does_not_wait_for_the_turn(self, rigs):
        rig = rigs()
        ends = [rig.connect(buffer=1 << 20) for _ in range(9)]
        for _ in range(130):
            rig.hub.append(bytes(1100))
        assert all(end.read() for end in ends)

    def test_a_new_follower_gets_nothing_that_was_queued_before_it_joined(self, rigs):
        rig = rigs()
        old = [rig.connect(buffer=1 << 16) for _ in range(9)]
        rig.hub.append(b"before")
        new = rig.connect()
        rig.hub.append(b"after")
        rig.settle()
        assert new.messages() == [b"after"]
        assert all(end.messages() == [b"before", b"after"] for end in old)

    def test_nobody_is_sent_anything_after_leaving_or_being_muted(self, rigs):
        rig = rigs()
        gone, muted, here = rig.connect(), rig.connect(), rig.connect()
        gone.follower.leave_()
        muted.follower.mute()
        rig.hub.append(b"x")
        rig.settle()
        assert (gone.messages(), muted.messages(), here.messages()) == ([], [], [b"x"])
        assert rig.hub.count == 1

    def test_a_broken_socket_ends_its_own_follower_only(self, rigs):
        rig = rigs()
        broken, fine = rig.connect(), rig.connect()
        broken.theirs.close()
        rig.hub.append(b"x")
        rig.hub.append(b"y")
        rig.loop.turn()
        fine.read()
        assert broken.follower.broken == 1 and broken.follower.name_of_state == "gone"
        assert fine.messages() == [b"x", b"y"]
        rig.ends.remove(broken)
        broken.ours.close()

    def test_a_transport_that_raises_ends_its_own_follower_only(self, rigs, caplog):
        rig = rigs()
        bad, fine = rig.connect(fd=False), rig.connect()

        def write(data):
            raise ZeroDivisionError("in a transport")

        bad.transport.write = write
        rig.hub.append(b"x")
        rig.settle()
        assert bad.follower.broken == 1
        assert fine.messages() == [b"x"]
        assert "in a transport" in caplog.text

    def test_a_long_round_yields_and_loses_nobody(self, rigs):
        rig = rigs()
        ends = [rig.connect(buffer=1 << 20) for _ in range(400)]
        payload = bytes(200_000)
        turns = 0
        for _ in range(3):
            rig.hub.append(payload)
            served = [end for end in ends if end.read(1)]
            assert 0 < len(served) < len(ends), "400 copies of 200 KB take well over the 2 ms of a slice"
            while rig.loop.turn():
                turns += 1
                for end in ends[turns % 7 :: 7]:
                    end.read()
                    end.transport.pump()
        rig.settle()
        assert all(end.messages() == [payload] * 3 for end in ends)

    def test_leaving_between_two_slices_of_a_round_disturbs_nobody(self, rigs):
        rng = random.Random(3)
        for _ in range(5):
            rig = rigs()
            ends = [rig.connect(buffer=1 << 20) for _ in range(300)]
            payload = bytes(200_000)
            rig.hub.append(payload)
            for end in rng.sample(ends, 100):
                end.follower.leave_()
                end.gone = True
            joined = rig.connect(buffer=1 << 20)
            rig.hub.append(b"last")
            rig.settle()
            for end in ends:
                if not hasattr(end, "gone"):
                    assert end.messages() == [payload, b"last"]
            assert joined.messages() == [b"last"]
            rig.close()


class TestCuts:
    def test_a_cut_frame_is_finished_through_the_transport_and_nothing_more(self, rigs):
        rig = rigs()
        end = rig.connect()
        rig.hub.append(bytes(LARGE * 4))
        rig.hub.append(b"next")
        assert end.follower.name_of_state == "blocked"
        end.read()
        taken = len(end.stream)
        assert taken + len(end.transport.buffered) == LARGE * 4 + 10, "exactly the rest of that frame"
        rig.settle()
        assert end.messages() == [bytes(LARGE * 4), b"next"]

    def test_the_rest_of_a_large_frame_is_a_view_and_no_copy(self, rigs):
        rig = rigs()
        end = rig.connect()
        payload = bytes(1 << 20)
        rig.hub.append(payload)
        (rest,) = end.transport.held
        assert isinstance(rest, memoryview) and rest.obj is payload

    def test_a_full_socket_at_a_frames_end_is_given_one_whole_frame(self, rigs):
        """Without bytes in the transport no event would ever come."""
        rig = rigs()
        end = rig.connect()
        while end.follower.name_of_state == "current":
            rig.hub.append(b"0123456789")
            rig.hub.flush()
        assert end.follower.name_of_state == "blocked" and end.transport.buffered
        for _ in range(100):
            rig.hub.append(b"more")
        assert len(end.transport.buffered) <= 12, "one frame at the most waits in the transport"
        rig.settle()
        assert end.messages()[-100:] == [b"more"] * 100

    def test_a_transport_that_takes_the_rest_at_once_does_not_block_its_follower(self, rigs):
        rig = rigs()
        end = rig.connect()
        real = end.transport.writelines

        def take(pieces):
            end.read()  # the receiver makes room just now
            real(pieces)

        end.transport.writelines = take
        rig.hub.append(bytes(60_000))
        rig.hub.append(b"after")
        rig.settle()
        assert end.messages() == [bytes(60_000), b"after"]

    @pytest.mark.parametrize("seed", range(40))
    def test_every_receiver_sees_every_message_whole_and_in_order(self, rigs, seed):
        """Random sends, stalls, joins, departures and foreign frames, against a list for each receiver."""
        rng = random.Random(seed)
        rig = rigs(max_backlog=1 << 30, max_queued=1 << 30)
        count = 0
        for _ in range(400):
            choice = rng.random()
            if choice < 0.08 and len(rig.ends) < 14:
                rig.connect(
                    fd=rng.random() < 0.7, eager=rng.random() < 0.5, buffer=rng.choice((2048, 8192, 65536))
                )
            elif choice < 0.11 and rig.ends:
                end = rig.ends.pop(rng.randrange(len(rig.ends)))
                end.follower.leave_()
                end.ours.close()
                end.theirs.close()
            elif choice < 0.55:
                for _ in range(rng.choice((1, 1, 1, 16, 200))):
                    count += 1
                    size = rng.choice((0, 4, 60, 121, 122, 3000, LARGE - 6, LARGE - 5, LARGE, 90_000))
                    payload = count.to_bytes(4, "little") + bytes(size)
                    assert rig.hub.append(payload)
                    for end in rig.ends:
                        end.expected.append(payload)
                    if size > 3000:
                        break
            elif choice < 0.62 and rig.ends:
                rng.choice(rig.ends).transport.write(
                    PONG
                )  # what picows does: at any moment, at a frame's end
            elif choice < 0.8:
                rig.loop.turn()
            elif rig.ends:
                for end in rng.sample(rig.ends, rng.randrange(1, len(rig.ends) + 1)):
                    end.read(rng.choice((1, 100, 5000, 1 << 20)))
                    if rng.random() < 0.7:
                        end.transport.pump()
            rig.hub.check()
        rig.settle()
        for end in rig.ends:
            assert end.messages() == end.expected
            assert end.follower.name_of_state == "current" and end.follower.bytes_behind == 0
        assert rig.hub.drained and rig.hub.retained == 0


class TestLimits:
    def stall(self, rig: Rig, payload: bytes, number: int) -> End:
        end = rig.connect()
        for _ in range(number):
            rig.hub.append(payload)
            rig.loop.turn()
        return end

    def test_a_follower_too_far_behind_is_closed_with_cause_bytes_and_seconds(self, rigs):
        rig = rigs(max_backlog=100_000)
        end = self.stall(rig, bytes(30_000), 9)
        (cause,) = end.follower.too_slow
        assert "too slow" in cause and "bytes queued, limit 100000" in cause and cause.endswith(" s")
        assert end.follower.name_of_state == "gone" and rig.hub.count == 0

    def test_memory_of_a_follower_that_was_closed_is_freed(self, rigs):
        rig = rigs(max_backlog=100_000)
        self.stall(rig, bytes(30_000), 9)
        rig.loop.turn()
        assert rig.hub.retained == 0

    def test_one_frame_alone_is_never_too_much(self, rigs):
        rig = rigs(max_backlog=100_000)
        end = rig.connect()
        rig.hub.append(bytes(500_000))
        rig.hub.append(bytes(700_000))
        for _ in range(5):
            rig.connect().follower.leave_()  # a turn of the loop, in which laggards are judged
            assert rig.loop.turn()
        assert end.follower.too_slow == [] and end.follower.bytes_behind == 700_010
        rig.settle()
        assert end.messages() == [bytes(500_000), bytes(700_000)]

    def test_nobody_is_judged_before_the_loop_has_run(self, rigs):
        rig = rigs(max_backlog=100_000, max_queued=1 << 30)
        end = rig.connect()
        for _ in range(50):
            rig.hub.append(bytes(40_000))
        assert end.follower.too_slow == []

    def test_within_one_turn_the_log_is_bounded_and_nothing_is_written(self, rigs):
        rig = rigs(max_backlog=100_000, max_queued=300_000)
        end = rig.connect()
        taken = 0
        while rig.hub.append(bytes(10_000)):
            taken += 1
        before = rig.hub.log.end
        assert not rig.hub.append(bytes(10_000)) and rig.hub.log.end == before
        assert rig.hub.retained <= 300_000 and taken >= 20
        assert end.follower.too_slow == []

    def test_a_frame_over_the_bound_goes_into_an_empty_log(self, rigs):
        rig = rigs(max_queued=300_000)
        end = rig.connect()
        assert rig.hub.append(bytes(400_000))
        rig.settle()
        assert end.messages() == [bytes(400_000)]

    def test_a_laggard_is_judged_though_nothing_more_is_sent(self, rigs):
        rig = rigs(max_backlog=100_000, max_queued=300_000)
        end = rig.connect()
        while rig.hub.append(bytes(10_000)):
            pass
        for _ in range(3):
            rig.loop.advance(0.25)
            while rig.loop.turn():
                pass
        assert len(end.follower.too_slow) == 1

    def test_no_byte_in_progress_timeout_ends_a_laggard(self, rigs):
        rig = rigs(progress_timeout=10.0)
        end = self.stall(rig, bytes(200_000), 1)
        for _ in range(60):
            rig.loop.advance(0.25)
        (cause,) = end.follower.too_slow
        assert cause.startswith("no progress for 10.") and "bytes queued" in cause

    def test_a_laggard_that_takes_bytes_lives(self, rigs):
        rig = rigs(progress_timeout=10.0)
        end = self.stall(rig, bytes(500_000), 1)
        for tick in range(200):
            rig.loop.advance(0.25)
            if tick % 30 == 0:
                end.read(1 << 16)
                end.transport.pump()
        assert end.follower.too_slow == []

    def test_a_loop_that_was_blocked_moves_every_deadline(self, rigs):
        rig = rigs(progress_timeout=10.0)
        end = self.stall(rig, bytes(200_000), 1)
        rig.loop.advance(0.25)
        rig.loop.advance(60.0)  # the process slept
        rig.loop.advance(0.25)
        assert end.follower.too_slow == []

    def test_an_idle_follower_is_not_asked_for_progress(self, rigs):
        rig = rigs(progress_timeout=1.0)
        end = rig.connect()
        for _ in range(40):
            rig.loop.advance(0.25)
        assert end.follower.name_of_state == "current"

    def test_the_timer_ends_with_the_last_follower(self, rigs):
        rig = rigs()
        end = rig.connect()
        rig.loop.advance(0.25)
        end.follower.leave_()
        rig.loop.advance(0.25)
        assert rig.loop.timers == []


class TestPacing:
    WATER = 100_000

    def behind(self, rig: Rig, number: int, **kind: Any) -> list[End]:
        rig.hub.pace(self.WATER)
        return [rig.connect(**kind) for _ in range(number)]

    def test_nobody_waits_for_followers_that_keep_up(self, rigs):
        rig = rigs()
        self.behind(rig, 3, buffer=1 << 20)
        for _ in range(20):
            rig.hub.append(bytes(50_000))
            rig.settle()
            assert not rig.hub.must_wait()

    def test_a_wait_ends_when_the_laggard_has_caught_up(self, rigs):
        rig = rigs()
        self.behind(rig, 1)
        while not rig.hub.must_wait():
            rig.hub.append(bytes(40_000))
        waiter = rig.hub.wait()
        rig.loop.turn()
        assert not waiter.done()
        rig.settle()
        assert waiter.done()

    def test_a_stalled_follower_among_others_is_waited_for_once(self, rigs):
        rig = rigs()
        stalled, fast = self.behind(rig, 2)
        while not rig.hub.must_wait():
            rig.hub.append(bytes(40_000))
        waiter = rig.hub.wait()
        for _ in range(8):
            while fast.read() or rig.loop.turn():
                fast.transport.pump()
        assert not waiter.done(), "the first 100 ms belong to everybody"
        rig.loop.advance(0.11)
        assert not waiter.done(), "and so do the second: equal receivers drain in bursts"
        rig.loop.advance(0.11)
        assert waiter.done()
        assert not stalled.follower.is_paced and fast.follower.is_paced
        assert not rig.hub.must_wait()

    def test_equal_followers_stay_paced(self, rigs):
        rig = rigs(max_backlog=1 << 30)
        ends = self.behind(rig, 5)
        for _ in range(30):
            while not rig.hub.must_wait():
                rig.hub.append(bytes(40_000))
            rig.hub.wait()
            for end in ends:
                end.read(3000)
                end.transport.pump()
            rig.loop.turn()
            rig.loop.advance(0.11)
            assert all(end.follower.is_paced for end in ends)

    def test_one_that_drains_in_bursts_stays_paced(self, rigs):
        """It does nothing for one window, then as much as the others in two: as on a busy machine."""
        rig = rigs(max_backlog=1 << 30)
        bursty, steady = self.behind(rig, 2)
        for number in range(20):
            while not rig.hub.must_wait():
                rig.hub.append(bytes(40_000))
            rig.hub.wait()
            for end in (steady, bursty) if number % 2 else (steady,):
                for _ in range(2 if end is bursty else 1):
                    end.read(3000)
                    end.transport.pump()
            rig.loop.turn()
            rig.loop.advance(0.11)
            assert bursty.follower.is_paced and steady.follower.is_paced

    def test_a_follower_that_falls_behind_between_two_windows_counts_from_where_it_stood(self, rigs):
        """Its mark is what had left the process, not the end of the frame that its transport holds."""
        rig = rigs(max_backlog=1 << 30)
        late, other = self.behind(rig, 2)
        while not rig.hub.must_wait():
            rig.hub.append(bytes(400_000))
        rig.hub.wait()
        late.read()
        late.transport.pump()
        for _ in range(3):
            other.read(3000)
            other.transport.pump()
            rig.loop.turn()
            rig.loop.advance(0.11)
        assert other.follower.is_paced

    def test_if_all_are_stalled_the_producer_waits_for_them(self, rigs):
        rig = rigs(max_backlog=1 << 30)
        self.behind(rig, 2)
        while not rig.hub.must_wait():
            rig.hub.append(bytes(40_000))
        waiter = rig.hub.wait()
        for _ in range(5):
            rig.loop.advance(0.11)
        assert not waiter.done(), "no-progress and max_backlog end this, not the pacer"
