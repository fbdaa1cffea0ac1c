"""`Nats`: NATS as the backplane (extra ``deli-com[nats]``)."""

from __future__ import annotations

import asyncio
import difflib
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from deli_com.backplane.protocol import Orphans, Unreachable, checked_orphans, checked_room
from deli_com.net.log_budget import LogBudget
from deli_com.net.options import wrong

__all__ = ["Nats"]

HIGH_WATER = 1 << 20  # bytes that may wait in nats-py; more wait in the server, by its policies
READ_AHEAD = 1 << 20  # bytes that asyncio reads ahead of nats-py; the default is 64 KiB
POLL_S = 0.001  # between two checks of HIGH_WATER
CLOSE_S = 1.0  # for what was published to reach NATS
OWN = ("servers", "allow_reconnect")  # options of nats-py that this class sets

_log = logging.getLogger("deli_com.backplane")


class Nats:
    """NATS as the backplane of a server; give it to ``bind(backplane=…)``.

    A server opens even if NATS cannot be reached, and then tries to connect.

    Parameters
    ----------
    url : str or list of str
        ``nats://host:port`` or ``tls://host:port``; several servers of a cluster as
        ``nats://a:4222,b:4222`` or as a list.
    room : str
        Servers with the same room are joined. Letters, digits, ``_`` and ``-``.
    orphans : "keep" or "forget"
        What happens to the retained values of a server that is gone.
    **options
        Of ``nats.connect`` of nats-py: ``user``, ``password``, ``token``, ``user_credentials``,
        ``nkeys_seed``, ``tls``, ``tls_hostname`` and others. By default it reconnects for ever
        (``max_reconnect_attempts``), twice a second (``reconnect_time_wait``), and sends a PING to NATS
        every 2 seconds (``ping_interval``).

    Raises
    ------
    ImportError
        The extra ``deli-com[nats]`` is not installed.
    TypeError, ValueError
        An option is malformed or unknown.
    """

    def __init__(
        self, url: str | Sequence[str], *, room: str, orphans: Orphans = "keep", **options: Any
    ) -> None:
        try:
            from nats.aio.client import Client
        except ImportError as error:
            raise ImportError('NATS needs the extra: pip install "deli-com[nats]"') from error
        self.servers = servers_of(url)
        self.room = checked_room(room)
        self.orphans = checked_orphans(orphans)
        known = [name for name in inspect.signature(Client.connect).parameters if name not in ("self", *OWN)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"Nats() got an unexpected option {name!r}{hint}")
        self._options: dict[str, Any] = {
            "no_echo": True,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.5,
            "connect_timeout": 2,
            "ping_interval": 2,
            "max_outstanding_pings": 2,
            "skip_subject_validation": True,
            "name": f"deli-com {room}",
            **options,
        }
        self._client: Any = None
        self._changed: Callable[[], None] | None = None
        self._budget = LogBudget(_log)

    def __repr__(self) -> str:
        return f"<Nats room {self.room!r}, {'connected' if self.is_connected else 'not connected'}>"

    @property
    def is_connected(self) -> bool:
        """Whether messages can be published now."""
        return self._client is not None and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Limit on the bytes of a message, as NATS announces it."""
        return 1 << 20 if self._client is None else int(self._client.max_payload)

    async def open(
        self,
        subjects: Sequence[str],
        receive: Callable[[str, bytes], None],
        changed: Callable[[], None],
    ) -> None:
        from nats.aio.client import Client

        if self._client is not None:
            raise RuntimeError("a backplane belongs to one server: make another Nats")
        client: Any = Client()
        self._changed = changed

        async def heard(message: Any) -> None:
            receive(message.subject, message.data)

        try:
            await client.connect(
                servers=self.servers,
                **{
                    **self._options,
                    "error_cb": self._told("error_cb", self._log_error),
                    "disconnected_cb": self._told("disconnected_cb", self._tell),
                    "reconnected_cb": self._told("reconnected_cb", self._tell),
                    "closed_cb": self._told("closed_cb", self._tell),
                },
            )
            for subject in subjects:
                await client.subscribe(subject, cb=heard, pending_msgs_limit=1 << 20)
            await client.flush()
        except BaseException:
            await _ended(client)
            raise
        self._client = client
        self._read_ahead()
        changed()

    async def publish(self, subject: str, message: bytes) -> None:
        client = self._client
        while True:
            if client is None or not client.is_connected:
                raise Unreachable("NATS is not connected")
            if client.pending_data_size <= HIGH_WATER:
                break
            await asyncio.sleep(POLL_S)
        await client.publish(subject, message)

    async def close(self) -> None:
        client, self._client = self._client, None
        self._changed = None
        if client is None:
            return
        try:
            if client.is_connected:
                await asyncio.wait_for(client.flush(), CLOSE_S)
        except Exception as error:
            _log.info("NATS: %s", str(error) or type(error).__name__)
        finally:
            await _ended(client)

    # --- private ------------------------------------------------------------------------------------------

    def _told(self, name: str, ours: Callable[..., None]) -> Callable[..., Any]:
        theirs = self._options.get(name)

        async def told(*args: Any) -> None:
            ours(*args)
            if theirs is not None:
                await theirs(*args)

        return told

    def _read_ahead(self) -> None:
        # asyncio pauses and resumes reading for every 64 KiB of a batch: nats-py gives no option for that.
        reader = getattr(getattr(self._client, "_transport", None), "_io_reader", None)
        if isinstance(reader, asyncio.StreamReader) and hasattr(reader, "_limit"):
            reader._limit = READ_AHEAD  # type: ignore[attr-defined, unused-ignore] # pyright: ignore

    def _tell(self) -> None:
        self._read_ahead()
        if self._changed is not None:
            self._changed()

    def _log_error(self, error: BaseException) -> None:
        self._budget.log(logging.WARNING, "NATS: %s", str(error) or type(error).__name__)


async def _ended(client: Any) -> None:
    # In a separate task, because nats-py cancels the task that calls it.
    ending = asyncio.ensure_future(client.close())
    done, late = await asyncio.wait([ending], timeout=CLOSE_S)
    for task in late:
        task.cancel()
    for task in done:
        if not task.cancelled() and task.exception() is not None:
            _log.info("NATS: %s", task.exception())


def servers_of(url: str | Sequence[str]) -> list[str]:
    """Return the URLs of one string or of several; TypeError or ValueError if one is invalid."""
    if not isinstance(url, (str, Iterable)):
        raise TypeError(wrong("url", url, "a str or a list of them"))
    given = [url] if isinstance(url, str) else [*url]
    found: list[str] = []
    for each in given:
        if not isinstance(each, str):
            raise TypeError(wrong("url", url, "a str or a list of them"))
        scheme, _, rest = each.rpartition("://") if "://" in each else ("", "", each)
        for place in rest.split(","):
            if not place.strip():
                raise ValueError(wrong("url", url, "nats://host:port"))
            found.append(f"{scheme or 'nats'}://{place.strip()}")
    if not found:
        raise ValueError(wrong("url", url, "nats://host:port"))
    for each in found:
        if each.partition("://")[0] not in ("nats", "tls", "ws", "wss"):
            raise ValueError(wrong("url", each, "nats://, tls://, ws:// or wss://"))
    return found
