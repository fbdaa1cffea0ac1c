"""Closed sockets leave no registration in the loop, even if removing it runs out of memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from deli_com.net import unwatched
from deli_com.net.unwatched import begin_unwatched, close_unwatched


class Loop(asyncio.SelectorEventLoop):
    """A loop without memory for so many calls of `remove_reader` and `remove_writer`."""

    failures = 0

    def remove_reader(self, fd: Any) -> bool:
        self._fail()
        return super().remove_reader(fd)

    def remove_writer(self, fd: Any) -> bool:
        self._fail()
        return super().remove_writer(fd)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise MemoryError

    def watched(self) -> set[int]:
        """The descriptors that it watches, but for its own."""
        return {number for number in self._selector.get_map() if number != self._ssock.fileno()}  # type: ignore[attr-defined]


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.setattr(unwatched, "_is_left_behind", False)
    loop = Loop()
    yield loop
    loop.failures = 0
    loop.close()


def watched_socket(loop: Loop) -> socket.socket:
    sock = socket.socket()
    loop.add_reader(sock.fileno(), print)
    loop.add_writer(sock.fileno(), print)
    return sock


def test_a_shortage_that_passes_leaves_nothing(loop: Loop) -> None:
    sock = watched_socket(loop)
    loop.failures = 30
    close_unwatched(loop, sock)
    assert sock.fileno() == -1 and not loop.watched()
    assert not unwatched._is_left_behind


def test_what_was_left_behind_is_removed_before_the_number_is_used_again(loop: Loop) -> None:
    sock = watched_socket(loop)
    number = sock.fileno()
    loop.failures = 1000
    close_unwatched(loop, sock)
    assert sock.fileno() == -1 and loop.watched() == {number}
    loop.failures = 0
    with socket.socket() as again:
        assert again.fileno() == number, "the system gives the least number that is free"
        begin_unwatched(loop, again)
        assert not loop.watched()
        loop.add_reader(number, print)  # with the old registration: FileNotFoundError
        loop.remove_reader(number)
