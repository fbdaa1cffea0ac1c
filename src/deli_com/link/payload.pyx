"""Sends values that are already encoded: from a recording, or another server. Their class sets the policy."""

from deli_com.fanout.encoded cimport Encoded, encoded
from deli_com.fanout.lane cimport Lane
from deli_com.ground.delivery_class cimport DELIVER_LATEST
from deli_com.ground.scalar cimport load_u32
from deli_com.link.endpoint cimport Endpoint
from deli_com.log.log cimport Log

from cpython.bytes cimport PyBytes_AS_STRING

from deli_com.errors import MessageTooLarge


def put_payload(Endpoint endpoint not None, bytes payload not None):
    """Queue the bytes of a value for every client, as `send_nowait` does a value.

    If the type is sealed, the leading index gives the class. The fields of a key are read from the bytes.
    Bytes of a class without a key are not checked: the caller knows that they are a value.

    Raises
    ------
    DecodeError
        They are not a value; for classes with a key only.
    MessageTooLarge, BacklogFull, ConnectionClosed
        As `send_nowait`.
    """
    cdef Lane lane = None
    cdef object key = None
    cdef Encoded message
    cdef Py_ssize_t index
    endpoint.home.check("send_nowait")
    endpoint.sender.check_sendable()
    if len(payload) > endpoint.max_message_size:
        raise MessageTooLarge(len(payload), endpoint.max_message_size)
    if endpoint.sender.lanes is not None:
        index = 0
        if len(endpoint.sender.lanes.lanes) > 1 and len(payload) >= 4:
            index = <Py_ssize_t>load_u32(PyBytes_AS_STRING(payload))
        if index >= len(endpoint.sender.lanes.lanes):
            endpoint.down.from_bytes(payload)  # says what is wrong
        lane = endpoint.sender.lanes.lanes[index]
        if lane.kind == DELIVER_LATEST:
            key = lane.key_of(endpoint.down.from_bytes(payload)) if lane.key else None
    if not endpoint.limits.room_for(len(payload)):
        endpoint.sender.refuse(None)
    message = encoded(payload, lane, key, None, None)
    endpoint.sender.put_encoded(message)


def forget_all(Endpoint endpoint not None):
    """Drop the retained messages of every class and key. Clients that join later do not get them."""
    cdef Log log = endpoint.log
    endpoint.home.check("forget")
    for lane, table in enumerate(log.keys.tables()):
        for value in list(<dict>table):
            log.forget(lane, value)
