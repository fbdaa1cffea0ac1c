"""Groups: messages for some of a server's clients."""

from types import GenericAlias

from deli_com.fanout.follower cimport Audience, Follower
from deli_com.link.connection cimport Connection
from deli_com.link.endpoint cimport Endpoint


cdef class Group:
    """Group(*args)\n--\n
    Some of a server's clients, under a name; `server.group(name)` gives it.

    A member gets the messages of a group in order with all its other messages: broadcasts, messages of other
    groups, and messages to it alone. Group messages never count against non-members, and never delay them.
    The policies of types apply in a group as in broadcasts, with keys of the group's own; a new member gets
    the newest message of each retained key.

    Two objects for the same group are equal. A client that leaves the server leaves its groups.
    A group exists while it has a member, retains a message, or is referenced by the program.
    """

    def __init__(self, *args):
        raise TypeError("write: server.group(name)")

    @classmethod
    def __class_getitem__(cls, item):
        """Let annotations say ``Group[T]``."""
        return GenericAlias(cls, item)

    @property
    def name(self):
        """The name of the group."""
        return self._audience.name

    @property
    def members(self):
        """The clients that are members now, a snapshot."""
        self._endpoint.home.check("group.members")
        return frozenset(self._audience.members)

    def add(self, Connection peer not None, /):
        """Add a client: it gets messages that are sent from now on. Adding a member again changes nothing.

        Returns
        -------
        bool
            Whether it is a member now; False for one that has left the server.

        Raises
        ------
        ValueError
            A client of another server.
        """
        self._endpoint.home.check("group.add")
        if peer.endpoint is not self._endpoint:
            raise ValueError(f"{peer!r} is no client of the server that the group {self.name!r} is of")
        if peer.hub is None:
            return False
        self._audience.add_member(peer)
        return True

    def discard(self, Connection peer not None, /):
        """Remove a client. It still gets messages that were sent before. Nothing happens if it is not a
        member."""
        self._endpoint.home.check("group.discard")
        self._audience.discard_member(peer)

    def send_nowait(self, value, /, *, Follower except_=None):
        """Queue `value` for every member, and return; as the server's `send_nowait`, from any thread."""
        self._endpoint.sender.put_from_any_thread(value, self._audience, except_)

    def send(self, value, /, *, Follower except_=None):
        """Queue `value` as `send_nowait` does; await the result to keep the members' pace."""
        self._endpoint.home.check("group.send")
        return self._endpoint.paced(self._audience, self._endpoint.sender.put(value, self._audience, except_))

    def forget(self, key=None, /, type=None):
        """Drop the newest message of a key, as the server's `forget` does for what is sent to all."""
        return self._endpoint.sender.forget_key(self._audience, key, type)

    def __contains__(self, peer):
        return peer in self._audience.members

    def __len__(self):
        return len(self._audience.members)

    def __eq__(self, other):
        return isinstance(other, Group) and (<Group>other)._audience is self._audience

    def __hash__(self):
        return hash(id(self._audience))

    def __repr__(self):
        return f"<Group {self.name!r}, {len(self)} members>"


def group_of(Endpoint endpoint not None, name):
    """Return the group of this name; it is created if there is none."""
    cdef Group group
    cdef Audience audience
    endpoint.home.check("group")
    audience = endpoint._groups.get(name)
    if audience is None:
        audience = endpoint.hub.new_audience(name)
        endpoint._groups[name] = audience
    group = <Group>Group.__new__(Group)
    group._endpoint = endpoint
    group._audience = audience
    return group


cdef extern from "deli_com/ground/refuse_new.h":
    void deli_com_refuse_new(object cls, const char* way_in)

deli_com_refuse_new(Group, "server.group(name)")
