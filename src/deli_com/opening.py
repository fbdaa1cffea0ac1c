"""The result of `bind` and `connect`: a coroutine object that is also an async context manager."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

__all__ = ["Opening", "running_loop"]


class _Opened(Protocol):
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def running_loop(what: str) -> asyncio.AbstractEventLoop:
    """Return the running event loop, before anything is opened.

    Raises
    ------
    RuntimeError
        No event loop is running, or one that is not asyncio's.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(f"{what} needs a running event loop of asyncio, and there is none here") from None


OpenedT = TypeVar("OpenedT", bound=_Opened)


class Opening(Coroutine[Any, Any, OpenedT], Generic[OpenedT]):
    """A server or client that is being opened.

    ::

        server = await WsServer[T].bind(addr)            # close it yourself
        async with WsServer[T].bind(addr) as server:     # closed at the end of the block
            ...

    Parameters
    ----------
    work : coroutine
        Opens it and returns it. If it is never awaited, Python warns when it is dropped.
    call : str
        The user's call, for error texts.
    makes : type, optional
        The class of the opened object.
    """

    __slots__ = ("_call", "_makes", "_opened", "_work")

    def __init__(
        self, work: Coroutine[Any, Any, OpenedT], call: str, makes: type[OpenedT] | None = None
    ) -> None:
        self._work = work
        self._call = call
        self._makes = makes
        self._opened: OpenedT | None = None

    def __await__(self) -> Generator[Any, Any, OpenedT]:
        return self._work.__await__()

    def send(self, value: Any, /) -> Any:
        if value is not None:  # no event loop does that; the caller took this for the opened object
            self._refuse("send")
        return self._work.send(value)

    def throw(self, kind: Any, value: Any = None, trace: Any = None, /) -> Any:
        if value is None and trace is None:
            return self._work.throw(kind)
        return self._work.throw(kind, value, trace)

    def close(self) -> None:
        self._work.close()

    async def __aenter__(self) -> OpenedT:
        self._opened = await self
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opened is not None  # __aenter__ has returned
        await self._opened.__aexit__(kind, error, trace)

    def _refuse(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{self._call} is not open yet, so it has no {name!r}: await it, or use `async with`"
        )

    if not TYPE_CHECKING:  # for type checkers, __getattr__ would allow any attribute

        def __getattr__(self, name: str) -> NoReturn:
            # The class and `__slots__` are searched first. Only attributes of the opened object get here.
            self._refuse(name)

        def __enter__(self) -> NoReturn:
            self._work.close()
            raise TypeError(f"write `async with {self._call}`: a plain `with` cannot await what it opens")

        def __exit__(self, *_: object) -> None: ...

    def __repr__(self) -> str:
        return f"<{self._call}, not awaited>"
