"""A link to another network namespace, with a delay, losses and a rate (delayed_link.c). Linux, root.

::

    enter_namespace()                            # once, before anything else: a namespace of the bench's own
    with delayed_link(delay=0.2, loss=0.01) as link:
        ...bind(link.near + ":0")                # this end is 10.9.0.1
        subprocess.run([*link.there, sys.executable, "client.py", link.near])
    link.told                  # {"down": {"carried": ..., "lost": ..., "dropped": ...}, "up": ...}
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from launch import compiled

NEAR, FAR = "10.9.0.1", "10.9.0.2"
PACKETS = 5000  # that the kernel holds before the link has read them: more than a socket has in flight


@dataclass
class Link:
    there: list[str]  # begins a command that runs at the far end
    near: str = NEAR
    told: dict[str, Any] = field(default_factory=dict)


def enter_namespace(congestion: str | None = None) -> None:
    """Run this program anew in a network namespace of its own, unless it is there."""
    if os.environ.get("DELI_COM_BENCH_NAMESPACE") != "1":
        os.environ["DELI_COM_BENCH_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if congestion is not None:
        subprocess.run(["sysctl", "-qw", f"net.ipv4.tcp_congestion_control={congestion}"], check=True)


@contextlib.contextmanager
def delayed_link(
    delay: float = 0.0, loss: float = 0.0, rate: float = 0.0, queue: int = 16 << 20, seed: int = 1
) -> Iterator[Link]:
    """Start a link; it ends with the block.

    Parameters
    ----------
    delay : float
        Seconds there and back.
    loss : float
        Share of the packets there and back: half of it each way.
    rate : float
        Bytes a second, each way; 0: as fast as it can.
    queue : int
        Bytes that are in the link at most, each way.
    """
    given = {
        "delay-us": round(delay / 2 * 1e6),
        "loss-ppm": round(loss / 2 * 1e6),
        "rate": round(rate),
        "queue": queue,
        "seed": seed,
    }
    command = [
        str(compiled("delayed_link")),
        *(text for k, v in given.items() for text in (f"--{k}", str(v))),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    link = Link(["nsenter", f"--net=/proc/{process.pid}/ns/net"])
    try:
        if process.stdout.readline() != "ready\n":
            sys.exit("no link: delayed_link needs root and /dev/net/tun")
        for before, name, address in (([], "deli0", NEAR), (link.there, "deli1", FAR)):
            for line in (
                f"ip addr add {address}/24 dev {name}",
                f"ip link set {name} txqueuelen {PACKETS} up",
            ):
                subprocess.run([*before, *line.split()], check=True)
        yield link
        process.stdin.close()
        link.told = json.loads(process.stdout.read())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
