"""Passes an endpoint's messages to recordings and other listeners: see recording/tap.pyx."""

from deli_com._fastcodec cimport TypeCodec, codec_decode
from deli_com.link.endpoint cimport Endpoint
from deli_com.recording.tap cimport WAY_RECEIVED, Hearer, Sink, Tap


def show_to(Endpoint endpoint not None, Hearer sink not None):
    """Pass every message to `sink` from now on."""
    cdef tuple others = () if endpoint.tap is None else endpoint.tap.sinks
    # A recording comes first: if it refuses a message, no listener gets it.
    endpoint.tap = Tap((sink, *others) if isinstance(sink, Sink) else (*others, sink))
    endpoint.sender.tap = endpoint.tap
    endpoint.sender.unseen_size = -1


def hide_from(Endpoint endpoint not None, Hearer sink not None):
    """Stop passing messages to `sink`. May be called from any thread, and twice."""
    cdef tuple sinks
    if endpoint.tap is None:
        return
    sinks = tuple([other for other in endpoint.tap.sinks if other is not sink])
    if not sinks:
        endpoint.sender.unseen_size = endpoint.max_message_size
    endpoint.tap = endpoint.sender.tap = Tap(sinks) if sinks else None


def retained_payloads(Endpoint endpoint not None):
    """The newest message of every key that is retained for all.

    Returns
    -------
    list of bytes
    """
    return endpoint.log.retained_payloads()


cdef int heard(Endpoint endpoint, TypeCodec read_as, const char* data, Py_ssize_t size) except -1:
    if read_as is endpoint.up or endpoint.is_client:  # a client records what is on the wire
        return endpoint.tap.note(WAY_RECEIVED, data, size, None, None)
    # What was written by another schema is shown as ours: the file has one for each direction.
    return endpoint.tap.note(
        WAY_RECEIVED, NULL, 0, endpoint.up.to_bytes(codec_decode(read_as, data, size)), None)
