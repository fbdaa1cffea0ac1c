"""One client process of the demo: ``python -m deli_com.demo.client HOST:PORT NUMBER``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque

from deli_com import ComError, WsClient
from deli_com.demo.telemetry import Report, Telemetry

REPORT_EVERY_NS = 250_000_000
WINDOW = 1000  # messages for the percentiles: ten seconds


class Tally:
    """Counts messages, and finds missing and misplaced ones by their sequence numbers.

    Parameters
    ----------
    client : int
        The number of this client in its reports.
    """

    def __init__(self, client: int) -> None:
        self._client = client
        self._received = 0
        self._payload = 0
        self._lost = 0
        self._disordered = 0
        self._expected = 0  # the next sequence number
        self._latencies: deque[int] = deque(maxlen=WINDOW)  # ns

    def add(self, sample: Telemetry, now_ns: int) -> None:
        """Count one message that arrived at `now_ns`."""
        self._received += 1
        self._payload += len(sample.to_bytes())
        self._latencies.append(now_ns - sample.sent_ns)
        if sample.seq >= self._expected:
            self._lost += sample.seq - self._expected
            self._expected = sample.seq + 1
        else:
            self._disordered += 1

    def report(self, latest: Telemetry, now_ns: int, *, final: bool) -> Report:
        """The counts so far; at least one message must have been counted."""
        ordered = sorted(self._latencies)
        return Report(
            client=self._client,
            stamp_ns=now_ns,
            received=self._received,
            payload=self._payload,
            lost=self._lost,
            disordered=self._disordered,
            p50_us=ordered[len(ordered) // 2] / 1000,
            p99_us=ordered[len(ordered) * 99 // 100] / 1000,
            latest=latest,
            final=final,
        )


async def follow(addr: str, number: int) -> None:
    """Receive until the last sample. Sends reports meanwhile and at the end."""
    tally = Tally(number)
    due_ns = time.monotonic_ns() + REPORT_EVERY_NS
    async with WsClient[Telemetry, Report].connect(addr) as client:
        async for sample in client:
            now_ns = time.monotonic_ns()
            tally.add(sample, now_ns)
            if sample.last or now_ns >= due_ns:
                due_ns = now_ns + REPORT_EVERY_NS
                await client.send(tally.report(sample, now_ns, final=sample.last))
            if sample.last:
                return
    raise ConnectionError("the server went away before its last sample")


def main(argv: list[str]) -> int:
    """Run one client; 0 if it got as far as the final report."""
    try:
        asyncio.run(follow(argv[0], int(argv[1])))
    except (ComError, ConnectionError) as error:
        print(f"demo client {argv[1]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
