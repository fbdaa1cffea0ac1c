"""Runs a program in its own network namespace.

::

    reason = why_no_namespace()                 # None where one can be made
    in_namespace(source, "ip link add ...")     # its output; fails the test if the program fails
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys

__all__ = ["in_namespace", "why_no_namespace"]


@functools.cache
def why_no_namespace() -> str | None:
    """Return why no network namespace with a pair of interfaces can be made here; None if it can."""
    if sys.platform != "linux" or shutil.which("unshare") is None or shutil.which("ip") is None:
        return "network namespaces need Linux, unshare and ip"
    ran = subprocess.run(
        ["unshare", "--net", "sh", "-c", "ip link add v0 type veth peer name v1"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if ran.returncode == 0 else f"no network namespace can be made: {ran.stderr.strip()[:100]}"


def in_namespace(source: str, *commands: str) -> str:
    """Run a Python program in a new network namespace, after these shell commands."""
    script = "\n".join(["set -e", "ip link set lo up", *commands, 'exec "$0" -W error -c "$1"'])
    ran = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, sys.executable, source],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
