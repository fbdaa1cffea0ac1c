"""One viewer: a client that speaks Foxglove's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deli_com.foxglove import protocol
from deli_com.foxglove.heads import Heads, begin_viewer, deliver
from deli_com.foxglove.playback import parse_control
from deli_com.foxglove.protocol import ENCODINGS, ERROR, PLAYBACK_STATE, SUBPROTOCOLS, WARNING
from deli_com.link.ws_link import WsLink

if TYPE_CHECKING:
    from deli_com.foxglove.desk import Desk
    from deli_com.link.endpoint import Endpoint
    from deli_com.link.request import Request

__all__ = ["Viewer"]

MAX_OWN_CHANNELS = 1024  # on which one viewer may publish
COMPLAINTS = 8  # limit on the statuses that one message of a viewer causes


class Viewer(WsLink):
    """A client that speaks Foxglove's protocol.

    1. The endpoint serves it from its logs; `Heads` converts the frames to messages.
    2. An invalid message is answered by a status, and changes nothing.
    3. A viewer that does not read gets no statuses, so they need no memory.

    Parameters
    ----------
    server : Endpoint
    request : Request
    desk : Desk
        The desk of the server.
    """

    __slots__ = ("_complaints", "_desk", "_heads", "_is_sdk", "_own", "_subscribed", "_subscriptions")

    def __init__(self, server: Endpoint[Any, Any], request: Request, desk: Desk) -> None:
        super().__init__(server, request.remote, request)
        self._desk = desk
        self._is_sdk = request.subprotocol == SUBPROTOCOLS[0]
        self._heads = Heads(server, desk.variants, desk.greeting(self._is_sdk), desk.times)
        self._subscriptions: dict[int, int] = {}  # the viewer's id to the channel
        self._subscribed: set[int] = set()  # those channels
        self._own: set[int] = set()  # channels on which it publishes
        self._complaints = 0
        begin_viewer(self, self._heads)

    def on_text(self, data: bytes) -> None:
        """Handle a text from the viewer."""
        self._complaints = 0
        try:
            said = protocol.parse_text(data)
        except UnicodeDecodeError:
            raise
        except ValueError as error:
            self._complain(ERROR, f"Invalid message: {error}")
            return
        self._handle(said, data)

    def on_binary(self, data: bytes) -> None:
        """Handle a binary message: a published message, or a request to the player."""
        self._complaints = 0
        if data[:1] == b"\x03":
            self._control(data)
            return
        try:
            said = protocol.parse_binary(data)
        except ValueError as error:
            self._complain(ERROR, f"Invalid message: {error}")
            return
        if said is not None:
            self._handle(said, data)

    # --- private ----------------------------------------------------------------------------------------

    def _handle(self, said: protocol.Said, data: bytes) -> None:
        match said:
            case protocol.Subscribe(subscriptions):
                for number, channel in subscriptions:
                    self._subscribe(number, channel)
            case protocol.Unsubscribe(numbers):
                for number in numbers:
                    self._unsubscribe(number)
            case protocol.Message(channel):
                if channel not in self._own:
                    self._complain(ERROR, f"Unknown channel ID: {channel}")
                elif not deliver(self, data, protocol.MESSAGE_HEAD):
                    self._complain(ERROR, f"Invalid message: it is no {self.endpoint.up}")
            case protocol.Advertise(channels):
                self._advertise(channels)
            case protocol.Unadvertise(numbers):
                for number in numbers:
                    if number in self._own:
                        self._own.discard(number)
                    else:
                        text = f"Client is not advertising channel: {number}; ignoring unadvertisement"
                        self._complain(WARNING, text)
            case protocol.Unsupported(capability):
                self._complain(ERROR, f"Server does not support {capability} capability")
            case protocol.ServiceCall():
                self._heads.say(self, protocol.service_failure(said))

    def _subscribe(self, number: int, channel: int) -> None:
        if not 1 <= channel <= len(self._desk.channels):
            self._complain(ERROR, f"Unknown channel ID: {channel}")
        elif channel in self._subscribed:
            self._complain(
                WARNING, f"Client is already subscribed to channel: {channel}; ignoring subscription"
            )
        elif number in self._subscriptions:
            self._complain(ERROR, f"Subscription ID was already used: {number}; ignoring subscription")
        else:
            self._heads.subscribe(self, channel - 1, number)
            self._subscriptions[number] = channel
            self._subscribed.add(channel)

    def _unsubscribe(self, number: int) -> None:
        channel = self._subscriptions.pop(number, None)
        if channel is not None:
            self._subscribed.discard(channel)
            self._heads.unsubscribe(self, channel - 1)

    def _advertise(self, channels: tuple[protocol.Advertised, ...]) -> None:
        if not self._desk.publishes:
            self._complain(ERROR, "Server does not support clientPublish capability")
            return
        for channel in channels:
            if channel.encoding not in ENCODINGS:
                known = ", ".join(ENCODINGS)
                self._complain(
                    ERROR, f"Messages on {channel.topic[:80]!r} are not read: encodings are {known}"
                )
            elif channel.id in self._own:
                text = f"Client is already advertising channel: {channel.id}; ignoring advertisement"
                self._complain(WARNING, text)
            elif len(self._own) >= MAX_OWN_CHANNELS:
                self._complain(ERROR, f"One viewer may advertise {MAX_OWN_CHANNELS} channels, not more")
            else:
                self._own.add(channel.id)

    def _control(self, data: bytes) -> None:
        if self._desk.player is None:
            self._complain(ERROR, "Server does not support playback control capability")
            return
        try:
            request = parse_control(data)
        except ValueError as error:
            self._complain(ERROR, f"Invalid message: {error}")
            return
        self._desk.player.control(request)

    def hear(self, key: str, message: bytes) -> None:
        """Send a text of the player. Of several texts with one key that wait, only the last is sent."""
        if self._is_sdk or message[0] != PLAYBACK_STATE:  # the older protocol has no such message
            self._heads.say_surely(self, key, message)

    def _complain(self, level: int, text: str) -> None:
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            self._heads.say(self, protocol.status(level, text))
