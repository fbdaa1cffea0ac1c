"""Unix sockets: TCP options are ignored, the path has permissions, and stale paths are replaced."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator

if sys.platform != "win32":  # Python has no Unix sockets there
    import fcntl

__all__ = ["UnixSocket", "as_transported", "listen_at", "remove_path", "sockaddr_of"]

TURN_S = 1.0  # limit on waiting for other processes that bind in the same directory
MODE = 0o600  # default permissions of the path; write permission allows connecting


class UnixSocket(socket.socket):
    """A Unix socket that accepts and ignores the TCP options that protocols set."""

    def setsockopt(self, level: int, *args: object) -> None:
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *args)  # type: ignore[call-overload]

    def getsockopt(self, level: int, *args: object) -> int | bytes:  # type: ignore[override]
        return 0 if level == socket.IPPROTO_TCP else super().getsockopt(level, *args)  # type: ignore[call-overload]


def as_transported(sock: socket.socket) -> socket.socket:
    """The socket to pass to a transport. If it is another object, the given one is detached."""
    if isinstance(sock, UnixSocket) or sock.family != getattr(socket, "AF_UNIX", None):
        return sock
    return UnixSocket(fileno=sock.detach())


def sockaddr_of(path: str) -> str:
    """The kernel's form of a path; ``@name`` is one of Linux's abstract names."""
    return "\0" + path[1:] if path.startswith("@") else path


def listen_at(path: str, backlog: int, mode: int | None) -> tuple[socket.socket, tuple[int, int] | None]:
    """Listen at a path. A socket file without a listening process is replaced.

    Parameters
    ----------
    mode : int, optional
        Permissions of the path, set before any client can connect. 0o600 if None.

    Returns
    -------
    (socket.socket, (int, int) or None)
        The non-blocking socket, and the identity of its path, to recognise one that replaced it later.

    Raises
    ------
    OSError
        EADDRINUSE: another server listens there, or the path is not a socket.
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
            os.chmod(path, MODE if mode is None else mode)  # clients cannot connect before listen()
            found = os.lstat(path)
            sock.listen(backlog)
        return sock, (found.st_dev, found.st_ino)
    except BaseException:
        sock.close()
        raise


def remove_path(path: str, identity: tuple[int, int]) -> None:
    """Remove the path of a closed socket, unless another socket has replaced it."""
    with contextlib.suppress(OSError), _alone_in(os.path.dirname(path) or "."):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == identity:
            os.unlink(path)


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Let one process at a time check the paths of this directory for listeners, and replace stale ones.

    Between `bind` and `listen` a path looks stale. The lock ends with its process. If the directory cannot be
    read, or another process keeps the lock for too long, it goes on without the lock.
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
            return False  # bind() will report that the path exists
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED
