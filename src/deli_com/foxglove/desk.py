"""`Desk`: what all viewers of one server share, that is, its channels and the first texts of each viewer."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from deli_com._abi import VERSION
from deli_com.foxglove.heads import Times, keep_time
from deli_com.foxglove.protocol import ENCODINGS, MAX_TEXT, SUBPROTOCOLS, Described, advertise, server_info
from deli_com.foxglove.viewer import Viewer
from deli_com.link.request import Answer, Request
from deli_com.recording.parts import ChannelInfo
from deli_com.recording.recorder import describe_channel
from deli_com.schema.tree import Sealed

if TYPE_CHECKING:
    from deli_com.foxglove.playback import Playback
    from deli_com.link.endpoint import Endpoint

__all__ = ["Desk"]


class Desk:
    """The state that the viewers of one server share.

    Parameters
    ----------
    server : Endpoint
        A desk is made in the thread of its loop.
    publishes : bool
        Viewers may send values, too.
    """

    subprotocols = SUBPROTOCOLS

    def __init__(self, server: Endpoint[Any, Any], publishes: bool) -> None:
        assert server.down is not None
        keep_time(server)
        self._down = server.down
        self.publishes = publishes
        self.session = str(time.time_ns() // 10**6)
        self.times: Times | None = None  # of a replay: when messages were sent
        self.player: Playback | None = None
        self.viewers: WeakSet[Viewer] = WeakSet()

    def viewer(self, server: Endpoint[Any, Any], request: Request) -> Viewer:
        """Make a viewer of `server` for the connection of this request."""
        request._answer = Answer((), MAX_TEXT)
        made = Viewer(server, request, self)
        self.viewers.add(made)
        return made

    def tell(self, key: str, message: bytes) -> None:
        """Send a text to all viewers. Of several waiting texts with one key, only the last is sent."""
        for viewer in [*self.viewers]:
            viewer.hear(key, message)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the variants of the type; one empty name if it is not sealed."""
        tree = self._down.schema.tree
        root = tree.by_name.get(str(tree.root))
        return tuple(variant.name for variant in root.variants) if isinstance(root, Sealed) else ("",)

    @property
    def variants(self) -> int:
        """Number of variants of the type; 0 if it is not sealed."""
        return 0 if self.classes == ("",) else len(self.classes)

    @cached_property
    def channels(self) -> tuple[Described, ...]:
        """The channels of what is sent to all: one for each class, numbered from 1."""
        schema = self._down.schema
        return tuple(
            _described(number, describe_channel(schema, "down", name))
            for number, name in enumerate(self.classes, 1)
        )

    @cached_property
    def _advertisement(self) -> list[bytes]:
        return advertise(self.channels)

    def greeting(self, is_sdk: bool) -> list[bytes]:
        """The texts that a viewer gets first, by ``foxglove.sdk.v1`` or by the older protocol."""
        capabilities = ["clientPublish"] if self.publishes else []
        if self.player is not None:
            capabilities += ["time", "playbackControl"] if is_sdk else ["time"]
        info = server_info(
            f"deli-com: {self._down.schema.tree.root}",
            capabilities=capabilities,
            encodings=ENCODINGS if self.publishes else (),
            metadata={"deli-com": VERSION},
            session=self.session,
            data_range=None if self.player is None else self.player.time_range,
        )
        return [info, *self._advertisement]


def _described(number: int, info: ChannelInfo) -> Described:
    name, encoding, text = info.schema
    return Described(number, info.topic, info.encoding, name, encoding, text.decode())
