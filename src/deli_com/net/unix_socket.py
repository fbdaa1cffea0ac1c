"""Sockets with a path: TCP's options are no-ops, who may connect, and paths that nobody listens at."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator

if sys.platform != "win32":  # where Python has no Unix sockets
    import fcntl

__all__ = ["UnixSocket", "as_transported", "listen_at", "remove_path", "sockaddr_of"]

TURN_S = 1.0  # how long others may take to bind in the same folder
MODE = 0o600  # of the path, unless it is given: whoever may write to it may connect


class UnixSocket(socket.socket):
    """A Unix socket that takes the options of TCP, as protocols set them, and ignores them."""

    def setsockopt(self, level: int, *args: object) -> None:
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *args)  # type: ignore[call-overload]

    def getsockopt(self, level: int, *args: object) -> int | bytes:  # type: ignore[override]
        return 0 if level == socket.IPPROTO_TCP else super().getsockopt(level, *args)  # type: ignore[call-overload]


def as_transported(sock: socket.socket) -> socket.socket:
    """Return the socket that a transport is given; the one that was passed is used up where it is another."""
    if isinstance(sock, UnixSocket) or sock.family != getattr(socket, "AF_UNIX", None):
        return sock
    return UnixSocket(fileno=sock.detach())


def sockaddr_of(path: str) -> str:
    """What the kernel is given for a path; ``@name`` is one of Linux's abstract names."""
    return "\0" + path[1:] if path.startswith("@") else path


def listen_at(path: str, backlog: int, mode: int | None) -> tuple[socket.socket, tuple[int, int] | None]:
    """Listen at a path, and take the place of a socket at which nobody answers.

    Parameters
    ----------
    mode : int, optional
        Permissions of the path, set before anybody can connect. 0o600 if None.

    Returns
    -------
    (socket.socket, (int, int) or None)
        Non-blocking; and what tells the path from one that another has put there since.

    Raises
    ------
    OSError
        EADDRINUSE: somebody listens there, or the path is no socket.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if path.startswith("@"):
            sock.bind(sockaddr_of(path))
            sock.listen(backlog)
            return sock, None
        with _alone_in(os.path.dirname(path) or "."):
            if _is_stale(path):
                os.unlink(path)
            sock.bind(path)
            os.chmod(path, MODE if mode is None else mode)  # nobody can connect before listen()
            found = os.lstat(path)
            sock.listen(backlog)
        return sock, (found.st_dev, found.st_ino)
    except BaseException:
        sock.close()
        raise


def remove_path(path: str, identity: tuple[int, int]) -> None:
    """Remove the path of a socket that was closed, unless another is there now."""
    with contextlib.suppress(OSError), _alone_in(os.path.dirname(path) or "."):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == identity:
            os.unlink(path)


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Let one process at a time look who listens at a path of this folder, and take its place.

    Between `bind` and `listen` a path looks like one that nobody listens at. The lock ends with its process.
    A folder that may not be read, or whose lock somebody else keeps, is used without it.
    """
    if sys.platform == "win32":
        yield
        return
    lock = -1
    with contextlib.suppress(OSError):
        lock = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + TURN_S
        while lock >= 0:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.005)
                    continue
            except OSError:
                pass  # a file system without locks
            break
        yield
    finally:
        if lock >= 0:
            os.close(lock)


def _is_stale(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False  # bind() says that something is there
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED
