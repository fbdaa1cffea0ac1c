"""`Memory`: a backplane within one process, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from weakref import WeakSet

from deli_com.backplane.protocol import Orphans, Unreachable, checked_orphans, checked_room
from deli_com.ground.home import Home

__all__ = ["Memory"]

_all: WeakSet[Memory] = WeakSet()


class Memory:
    """A backplane for tests: servers of one process, in one event loop, without a network.

    ::

        async with (
            WsServer[Quote].bind(addr, backplane=Memory("quotes")) as one,
            WsServer[Quote].bind(other, backplane=Memory("quotes")) as two,
        ):

    Messages arrive one turn of the loop later. Set `is_away` to test a program without its backplane, and
    `loses` to lose messages.

    Parameters
    ----------
    room : str
        Servers with the same room are joined.
    orphans : "keep" or "forget"
        What happens to the retained values of a server that is gone.
    max_payload : int
        Bytes that a message may have.
    """

    def __init__(self, room: str, *, orphans: Orphans = "keep", max_payload: int = 1 << 20) -> None:
        self.room = checked_room(room)
        self.orphans = checked_orphans(orphans)
        self.max_payload = max_payload
        self.loses: Callable[[str, bytes], bool] | None = None  # (subject, message): True loses it
        self._subjects: list[list[str]] = []
        self._receive: Callable[[str, bytes], None] | None = None
        self._changed: Callable[[], None] | None = None
        self._is_away = False
        self._home: Home | None = None  # while it is open

    @property
    def is_connected(self) -> bool:
        """Whether messages can be published now."""
        return self._receive is not None and not self._is_away

    @property
    def is_away(self) -> bool:
        """Whether the network is interrupted. It is set in the event loop of the server."""
        return self._is_away

    @is_away.setter
    def is_away(self, value: bool) -> None:
        if self._home is not None:
            self._home.refuse_elsewhere("memory.is_away")
        self._is_away = value
        if self._changed is not None:
            self._changed()

    async def open(
        self,
        subjects: Sequence[str],
        receive: Callable[[str, bytes], None],
        changed: Callable[[], None],
    ) -> None:
        if self._receive is not None:
            raise RuntimeError("a backplane belongs to one server: make another Memory")
        self._subjects = [subject.split(".") for subject in subjects]
        self._home = Home(asyncio.get_running_loop())
        self._receive, self._changed = receive, changed
        _all.add(self)
        changed()

    async def publish(self, subject: str, message: bytes) -> None:
        if not self.is_connected:
            raise Unreachable("the network is interrupted")
        if len(message) > self.max_payload:
            raise ValueError(f"a message of {len(message)} bytes is over the limit of {self.max_payload}")
        if self.loses is not None and self.loses(subject, message):
            return
        loop = asyncio.get_running_loop()
        for other in [*_all]:
            if other is not self and other._wants(subject):
                loop.call_soon(other._deliver, subject, message)

    async def close(self) -> None:
        _all.discard(self)
        self._receive = self._changed = self._home = None

    def _wants(self, subject: str) -> bool:
        words = subject.split(".")
        return self.is_connected and any(
            len(words) == len(wanted)
            and all(mine in ("*", word) for mine, word in zip(wanted, words, strict=True))
            for wanted in self._subjects
        )

    def _deliver(self, subject: str, message: bytes) -> None:
        if self._receive is not None and not self._is_away:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                self._receive(subject, message)
