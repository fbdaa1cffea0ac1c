"""The public interface of one client, which each connection subclasses.

The ``_by_user`` methods do nothing here; a connection overrides them. An extension class has one base,
so this one is a subclass of `Follower`: users have the same object that the round serves.
"""

from types import GenericAlias

from deli_com.fanout.follower cimport Follower


cdef bint may_be_sent(int code) noexcept:
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


cdef class Peer(Follower):
    """Peer(*args, **kwargs)\n--\n
    One client of a server, as ``recv_from``, ``with_peer``, callbacks and ``server.clients`` give it.

    One object for as long as the connection lasts: compare peers with ``is``, or use them as
    keys. It may be kept longer than that; its attributes then have their last values.

    Attributes
    ----------
    remote_addr : Address or None
        Address of the other end; None where the kernel does not tell it, for example if the peer disconnected
        at once.
    via : Address or None
        Address of the proxy that has connected for the client, with ``forwarded_from``; else None.
    peer_certificate : dict or None
        The other end's certificate as `ssl.SSLSocket.getpeercert` gives it: None without one or without
        TLS, empty where this end's context verifies none.
    request : Request or None
        Of the WebSocket handshake: ``path``, ``query``, ``headers``, ``subprotocol``. None over TCP.
    """

    @classmethod
    def __class_getitem__(cls, item):
        """Let annotations say ``Peer[T]``."""
        return GenericAlias(cls, item)

    def __init__(self, *args, **kwargs):
        raise TypeError("a Peer is not made: servers give one for each client")

    def __repr__(self):
        return f"<Peer {self.remote_addr}>"

    @property
    def via(self):
        return None if self.request is None else self.request.via

    @property
    def state(self):
        """An attribute for your own data about this client; None at first."""
        return self.own_state

    @state.setter
    def state(self, value):
        self.own_state = value

    @property
    def is_open(self):
        """Whether it is connected: it is counted, and gets messages."""
        return self.stage == CONNECTION_OPEN and self.hub is not None

    def close(self, code=1000, reason=""):
        """End the connection to this client; returns at once, and does nothing if it has ended.

        Queued messages are sent as far as the socket accepts them now; the rest is dropped, and
        ``on_disconnect`` gets the number of bytes. Then a WebSocket client gets a CLOSE frame, and has
        ``close_timeout`` to answer. A TCP stream ends; if messages were dropped it is reset, so that the
        client can tell.

        Parameters
        ----------
        code : int
            1000 to 1003, 1007 to 1014, or 3000 to 4999, which are the application's own (RFC 6455
            section 7.4). Not sent over TCP.
        reason : str
            At most 123 bytes of its UTF-8 are sent, cut between characters; none over TCP.

        Raises
        ------
        ValueError
            A code that may not be sent.
        RuntimeError
            Another thread than the event loop's.
        """
        if not isinstance(code, int) or not isinstance(reason, str):
            raise TypeError(f"close(code, reason) takes an int and a str, not {code!r} and {reason!r}")
        if not 0 <= code <= 4999 or not may_be_sent(code):
            raise ValueError(
                f"close code {code} must not be sent: 1000 to 1003, 1007 to 1014 and 3000 to 4999 may be"
            )
        self.close_by_user(code, reason)

    cdef int close_by_user(self, int code, str reason) except -1:
        return 0

    def send_nowait(self, value, /):
        """Queue `value` for this client alone, and return. Legal from any thread.

        It is sent in order with the messages to all clients.

        Raises
        ------
        EncodeError, MessageTooLarge
            `value` is not of the type, or too large.
        BacklogFull
            More than 1 MiB is queued for this client alone. One message never exceeds that by itself.
            Another thread does not always get this error: a message for which there is no room later is
            counted as refused.
        ConnectionClosed
            The client has left, or the server is closed.
        """
        self.put_by_user(value)

    def send(self, value, /):
        """Queue `value` as `send_nowait` does; await the result to keep this client's pace.

        The errors of `send_nowait` come from the call, not from awaiting.
        """
        return self.send_by_user(value)

    cdef bint put_by_user(self, object value) except -1:
        return False

    cdef object send_by_user(self, object value):
        return None

    def stats(self):
        """Return counters of this client as `PeerStats`. Legal from any thread."""
        return self.count_for_user()

    cdef object count_for_user(self):
        return None

    @property
    def schema(self):
        """What is known of its schemas, as `PeerSchema`: ``peer.schema.up.how``, ``.theirs``."""
        return self.schema_for_user()

    cdef object schema_for_user(self):
        return None
