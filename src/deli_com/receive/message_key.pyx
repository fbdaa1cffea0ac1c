"""Finds the delivery policy and the key of a message in its bytes.

Two keys are equal exactly if their fields are equal on the wire. So the bytes of these fields serve as the
key, and keys are compared without decoding.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from deli_com._fastcodec cimport TypeCodec
from deli_com.coding.pass_over cimport pass_over
from deli_com.coding.program cimport OP_NEED, OP_SEALED, OP_TAG
from deli_com.ground.delivery_class cimport DELIVER_LATEST, DELIVER_RELIABLE, DELIVER_SKIP, DeliveryClass
from deli_com.ground.scalar cimport load_u32

from deli_com.types.graph import check
from deli_com.types.instance import RecordType, record_spec

cdef dict KINDS = {"skip": DELIVER_SKIP, "latest": DELIVER_LATEST}


cdef class MessageKeys:
    """Finds policies and keys in the messages of one type. `message_keys` makes it."""

    def __cinit__(self):
        self._codecs = []

    def __dealloc__(self):
        cdef int i
        for i in range(self._count):
            PyMem_Free(self._ways[i].parts)
        PyMem_Free(self._ways)
        PyMem_RawFree(self._scratch)

    cdef bint find(self, const char* data, Py_ssize_t size, MessageKey* found) noexcept:
        cdef const char* end = data + size
        cdef const char* after
        cdef KeyWay* way
        cdef KeyPart* part
        cdef KeyPart* last
        cdef uint32_t index = 0
        if size < self._first:
            return False
        if self._is_sealed:
            index = load_u32(data)
            if index >= <uint32_t>self._count:
                return False
        way = &self._ways[index]
        found.lane = <int>index
        found.kind = way.kind
        found.max_age_ns = way.max_age_ns
        found.data = data
        found.size = 0
        data += self._first
        part = way.parts
        last = part + way.count
        while part < last:
            if part.size < 0:
                after = pass_over(part.prog, data, end, 0)
                if after == NULL:
                    return False
            elif part.size <= end - data:
                after = data + part.size
            else:
                return False
            if part.is_key:
                if way.is_split:
                    if not self._append(data, after - data, found):
                        return False
                else:
                    if found.size == 0:
                        found.data = data
                    found.size += after - data
            data = after
            part += 1
        if way.is_split:
            found.data = self._scratch
        return True

    cdef bint _append(self, const char* data, Py_ssize_t size, MessageKey* found) noexcept:
        cdef char* grown
        if found.size + size > self._room:
            grown = <char*>PyMem_RawRealloc(self._scratch, 2 * (found.size + size))
            if grown == NULL:
                return False
            self._scratch = grown
            self._room = 2 * (found.size + size)
        memcpy(self._scratch + found.size, data, size)
        found.size += size
        return True

    cdef int _add_way(self, int lane, object cls, object delivery) except -1:
        cdef KeyWay* way = &self._ways[lane]
        cdef KeyPart* part
        cdef TypeCodec codec
        cdef bint is_key
        cdef set names = set(delivery.key or ())
        way.kind = <DeliveryClass><int>KINDS.get(delivery.policy, DELIVER_RELIABLE)
        if delivery.max_age is not None:
            way.max_age_ns = max(1, round(delivery.max_age * 1e9))
            self.has_ages = True
        if not names:
            return 0
        spec = record_spec(cls)
        way.parts = <KeyPart*>PyMem_Calloc(len(spec.fields), sizeof(KeyPart))
        if way.parts == NULL:
            raise MemoryError
        for field, (name, node) in zip(spec.fields, spec.nodes()):
            is_key = name in names
            codec = TypeCodec(field.annotation, node, check(node), name)
            part = &way.parts[way.count - 1] if way.count else NULL
            if part != NULL and codec.prog.fixed and part.size >= 0 and part.is_key == is_key:
                part.size += codec.min_size
            else:
                part = &way.parts[way.count]
                way.count += 1
                part.prog = codec.prog
                part.size = codec.min_size if codec.prog.fixed else -1
                part.is_key = is_key
                self._codecs.append(codec)
            names.discard(name)
            if not names:
                break
        way.is_split = any([
            way.parts[i].is_key and not way.parts[i + 1].is_key for i in range(way.count - 1)
        ])
        return 0


cdef MessageKeys message_keys(TypeCodec codec):
    cdef MessageKeys made
    spec = record_spec(codec.type) if isinstance(codec.type, RecordType) else None
    if spec is None:
        return None
    classes = list(spec.variants.values()) if spec.sealed else [codec.type]
    deliveries = [record_spec(cls).delivery for cls in classes]
    if not any([delivery.policy in KINDS or delivery.max_age is not None for delivery in deliveries]):
        return None
    made = MessageKeys.__new__(MessageKeys)
    made._codec = codec
    made._is_sealed = codec.prog.ops[0].code == OP_SEALED
    if made._is_sealed or codec.prog.ops[0].code == OP_NEED and codec.prog.ops[1].code == OP_TAG:
        made._first = 4
    made._ways = <KeyWay*>PyMem_Calloc(len(classes), sizeof(KeyWay))
    if made._ways == NULL:
        raise MemoryError
    made._count = <int>len(classes)
    for index, (cls, delivery) in enumerate(zip(classes, deliveries)):
        made._add_way(<int>index, cls, delivery)
    return made
