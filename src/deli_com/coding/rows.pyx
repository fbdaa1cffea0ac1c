"""Structured arrays of another writer, converted to rows of the reader's dtype.

If all rows of the writer have the same size, the fields are read one after the other, each in all rows:
copies, conversions and defaults are loops of a few instructions. If an array has a fault, it is read again
row by row, to find the error. On processors that can shuffle 16 bytes in one instruction, such steps (rows.h)
place several fields at once.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from deli_com.coding.columns cimport Columns
from deli_com.coding.decode cimport *
from deli_com.coding.decode_errors cimport *
from deli_com.coding.encoder cimport number_size
from deli_com.coding.program cimport *
from deli_com.ground.cpython cimport *
from deli_com.ground.scalar cimport *

cdef enum:
    MAX_ROOM = 1024           # most bytes of a reader's row that steps build
    MAX_FIELD = 32            # most bytes of a field in a step; longer ones are copied separately
    MAX_ITEMS = 16            # most items of a field that is looped over by rows
    CONSTANT = -1             # source of a byte that is the same in all rows


cdef class RowReader:
    """Reads a structured array field by field."""

    def __init__(self, Columns columns not None, Program program not None):
        self.columns = columns
        self.program = program
        self.prog = &program.prog
        self.is_flat = _is_flat(self.prog)
        self.in_steps = bytearray(self.prog.count)
        if self.is_flat and columns.row <= MAX_ROOM and dc_can_shuffle():
            _add_steps(self)

    def __dealloc__(self):
        PyMem_Free(self.steps)


cdef bint _is_flat(Prog* row) noexcept:
    # Whether the program is one run, except for defaults.
    cdef Py_ssize_t i
    cdef int code
    for i in range(row.count):
        code = row.ops[i].code
        if code == OP_NEED:
            if i != 0:
                return False
        elif not (OP_SKIP <= code <= OP_SKIP_ENUM or OP_ROW_COPY <= code <= OP_ROW_DEFAULT):
            return False
    return row.count > 0 and row.ops[0].code == OP_NEED


# --- making the steps, once ---

cdef int _add_steps(RowReader reader) except -1:
    cdef Py_ssize_t room = reader.columns.row
    cdef Py_ssize_t i
    sources = [None] * room   # for each byte of the reader's row: the byte of the writer's row, or CONSTANT
    floats = []               # (offset in the reader's row, offset in the writer's)
    constant = bytearray(room)
    fields = _places(reader, sources, floats, constant)
    steps = []
    windows = 0
    for at in range(0, room, DC_PICK):
        at = max(min(at, room - DC_PICK), 0)
        more = _steps_at(at, sources[at:at + DC_PICK], floats, bytes(constant[at:at + DC_PICK]))
        windows += sum([len(step[1]) for step in more])
        steps += more
    if not steps or windows > fields:  # the steps would not be faster
        reader.in_steps = bytearray(reader.prog.count)
        return 0
    reader.steps = <RowStep*>PyMem_Calloc(len(steps), sizeof(RowStep))
    if reader.steps == NULL:
        raise MemoryError
    reader.step_count = len(steps)
    for i, step in enumerate(steps):
        _set_step(&reader.steps[i], step)
        reader.reach = max(reader.reach, max(step[1].values(), default=0) + DC_PICK)
        reader.extent = max(reader.extent, <Py_ssize_t>step[0] + DC_PICK)
    return 0


cdef Py_ssize_t _places(
    RowReader reader, list sources, list floats, bytearray constant
) except -1:
    # Records the sources of values, and which operations they cover. Returns the number of loops that this
    # saves.
    cdef Prog* row = reader.prog
    cdef Op* op
    cdef Py_ssize_t k, i, size, wide
    cdef Py_ssize_t at = 0    # offset in the writer's row
    cdef Py_ssize_t fields = 0
    for k in range(row.count):
        op = &row.ops[k]
        if op.code == OP_NEED:
            continue
        size = number_size(op.kind & 0xFF) if op.code == OP_ROW_WIDER else op.size
        wide = number_size(op.kind >> 8) if op.code == OP_ROW_WIDER else op.size
        if size == 0 and op.code != OP_ROW_DEFAULT:
            pass  # a fixed array without items
        elif op.size > MAX_FIELD or (op.code == OP_ROW_ENUM and op.ref != NULL):
            pass
        elif op.code == OP_ROW_DEFAULT:
            for i in range(PyBytes_GET_SIZE(<PyObject*>op.ref)):
                constant[op.offset + i] = <uint8_t>PyBytes_AS_STRING(<PyObject*>op.ref)[i]
                sources[op.offset + i] = CONSTANT
            reader.in_steps[k] = True
        elif op.code == OP_ROW_WIDER and op.kind == kinds_pair(OP_F32, OP_F64):
            floats += [(op.offset + 8 * i, at + 4 * i) for i in range(op.size // 4)]
            reader.in_steps[k] = True
            fields += op.size // 4
        elif op.code == OP_ROW_COPY or op.code == OP_ROW_BOOL or op.code == OP_ROW_ENUM or (
            op.code == OP_ROW_WIDER and (op.kind & 0xFF) <= OP_U64 and (op.kind >> 8) != OP_F64
        ):
            for i in range(op.size // size * wide):
                sources[op.offset + i] = at + i // wide * size + i % wide if i % wide < size else CONSTANT
            reader.in_steps[k] = True
            fields += op.size // size
        at += op.size
    return fields


def _steps_at(at, sources, floats, constant):
    # The contents of the RowSteps that make 16 bytes of the reader's row, or those up to its end. For each:
    # its offset, {window: its start}, {window: its picks}, the offsets of the floats, how these are found,
    # the constant, and whether it adds to earlier bytes.
    wanted = {i: source for i, source in enumerate(sources) if source is not None and source != CONSTANT}
    picks = _windows(wanted)
    pairs = _pairs(sorted([(source, to - at) for to, source in floats if -8 < to - at < len(sources)]))
    steps = []
    while picks or pairs or (not steps and CONSTANT in sources):
        starts = {}
        masks = {}
        for which in range(2):
            if picks:
                starts[which], masks[which] = picks.pop(0)
        place = bytes([DC_NOTHING] * DC_PICK)
        how = 0
        if pairs:
            pair = pairs.pop(0)
            start = starts.setdefault(0, pair[0][0])
            how = 2 if all([start <= source <= start + DC_PICK - 4 for source, _ in pair]) else 1
            if how == 1:
                start = starts[2] = pair[0][0]
            elif all([to == 0 or to == 8 for _, to in pair]):
                how = 3
            masks[2], place = _picks_of(pair, start, len(sources))
        steps.append((at, starts, masks, place, how, b"" if steps else constant, bool(steps)))
    return steps


def _windows(wanted):
    # The windows of 16 bytes that cover the wanted bytes: (start, pick). `wanted`: offset -> source.
    found = []
    while wanted:
        start = min(wanted.values())
        here = {i: source - start for i, source in wanted.items() if source - start < DC_PICK}
        found.append((start, bytes([here.get(i, DC_NOTHING) for i in range(DC_PICK)])))
        wanted = {i: source for i, source in wanted.items() if i not in here}
    return found


def _pairs(floats):
    # Groups floats, at most two, that are within 16 bytes of the writer's row. `floats`: (source, offset) in
    # order.
    found = []
    while floats:
        taken = [item for item in floats[:2] if item[0] - floats[0][0] + 4 <= DC_PICK]
        found.append(taken)
        floats = floats[len(taken):]
    return found


def _place(item):
    return item[1]


def _picks_of(pair, start, size):
    # The picks of the f32 in the window at `start`, and the positions of the f64 in `size` bytes.
    pick = [DC_NOTHING] * DC_PICK
    place = [DC_NOTHING] * DC_PICK
    for k, (source, to) in enumerate(sorted(pair, key=_place)):
        if len(pair) == 1 and to == 8:  # already in position
            k = 1
        pick[4 * k:4 * k + 4] = range(source - start, source - start + 4)
        for i in range(max(-to, 0), min(8, size - to)):
            place[to + i] = 8 * k + i
    return bytes(pick), bytes(place)


cdef int _set_step(RowStep* step, tuple made) except -1:
    cdef int which
    at, starts, masks, place, how, constant, is_more = made
    step.to = at
    step.has_second = 1 in starts
    step.has_floats = how
    step.is_more = is_more
    memset(step.pick, DC_NOTHING, sizeof(step.pick))
    for which in starts:
        step.start[which] = starts[which]
    for which in masks:
        memcpy(step.pick[which], PyBytes_AS_STRING(<PyObject*>masks[which]), DC_PICK)
    memcpy(step.place, PyBytes_AS_STRING(<PyObject*>place), DC_PICK)
    memcpy(step.constant, PyBytes_AS_STRING(<PyObject*>constant), PyBytes_GET_SIZE(<PyObject*>constant))
    return 0


# --- all rows, field by field ---

cdef bint _read_flat(RowReader reader, const char* p, const char* end, Py_ssize_t count, char* to) noexcept:
    # Reads `count` rows. Returns False if a value is invalid, without an error.
    cdef Py_ssize_t size = reader.prog.min_size
    cdef Py_ssize_t room = reader.columns.row
    cdef Py_ssize_t done = 0
    if reader.step_count:  # not the last rows, where a step would read or write past the end
        done = min((end - p - reader.reach) // size + 1, (count * room - reader.extent) // room + 1)
        if end - p < reader.reach or count * room < reader.extent:
            done = 0
        done = min(done, count)
        if not _columns(reader, p, done, to, _run_steps(reader, p, done, to)):
            return False
    return _columns(reader, p + done * size, count - done, to + done * room, NULL)


cdef const char* _run_steps(RowReader reader, const char* p, Py_ssize_t count, char* to) noexcept:
    # Which operations are done by steps. If a NaN was changed, none is.
    cdef bint is_nan = False
    cdef Py_ssize_t k
    for k in range(reader.step_count):
        is_nan |= dc_step(&reader.steps[k], p, reader.prog.min_size, to, reader.columns.row, count)
    return NULL if is_nan else PyByteArray_AS_STRING(<PyObject*>reader.in_steps)


cdef bint _columns(RowReader reader, const char* p, Py_ssize_t count, char* to, const char* done) noexcept:
    # Reads field by field. Values of operations that are `done` are only checked.
    cdef Prog* row = reader.prog
    cdef Py_ssize_t k = 0
    cdef Py_ssize_t size
    cdef Op* op
    while k < row.count and count > 0:
        op = &row.ops[k]
        size = op.size
        if op.code == OP_NEED:
            size = 0
        elif op.code == OP_ROW_COPY and (done == NULL or not done[k]):
            while k + 1 < row.count and _is_next(op, size, &row.ops[k + 1]):  # whether done or not
                k += 1
                size += row.ops[k].size
            dc_copy(size, p, row.min_size, to + op.offset, reader.columns.row, count)
        elif not _is_fit(op, p, row.min_size, count):
            return False
        elif done == NULL or not done[k]:
            _put(op, p, row.min_size, count, to + op.offset, reader.columns.row)
        p += size
        k += 1
    return True


cdef inline bint _is_next(Op* op, Py_ssize_t size, Op* other) noexcept:
    # Whether a copy continues one of `size` bytes, in both rows.
    return other.code == OP_ROW_COPY and other.offset == op.offset + size


cdef bint _is_fit(Op* op, const char* p, Py_ssize_t size, Py_ssize_t count) noexcept:
    # Whether the values of a field are valid in all rows.
    cdef const char* end = p + count * size
    cdef unsigned char wrong = 0
    cdef uint32_t most = 0
    if op.code == OP_SKIP_BOOL or op.code == OP_ROW_BOOL:
        while p < end:
            wrong |= p[0]
            p += size
        return wrong <= 1
    if op.code == OP_SKIP_ENUM or (op.code == OP_ROW_ENUM and op.ref == NULL):
        while p < end:
            most = max(most, load_u32(p))
            p += size
        return most < op.number
    if op.code == OP_ROW_ENUM:
        while p < end:
            if load_u32(p) >= op.number or row_index(op, load_u32(p)) == NO_MEMBER:
                return False
            p += size
    return True


cdef void _put(Op* op, const char* p, Py_ssize_t size, Py_ssize_t count, char* to, Py_ssize_t room) noexcept:
    # Stores the values of a field, which are valid.
    cdef Py_ssize_t i, items, narrow, wide
    if op.code == OP_ROW_BOOL or (op.code == OP_ROW_ENUM and op.ref == NULL):
        dc_copy(op.size, p, size, to, room, count)
    elif op.code == OP_ROW_ENUM:
        for i in range(count):
            store_u32(to + i * room, row_index(op, load_u32(p + i * size)))
    elif op.code == OP_ROW_DEFAULT:
        dc_copy(PyBytes_GET_SIZE(<PyObject*>op.ref), PyBytes_AS_STRING(<PyObject*>op.ref), 0, to, room, count)
    elif op.code == OP_ROW_WIDER:
        narrow = number_size(op.kind & 0xFF)
        wide = number_size(op.kind >> 8)
        items = op.size // narrow
        if items <= MAX_ITEMS:
            for i in range(items):
                widen(op.kind & 0xFF, op.kind >> 8, p + i * narrow, size, to + i * wide, room, count)
        else:
            for i in range(count):
                widen(op.kind & 0xFF, op.kind >> 8, p + i * size, narrow, to + i * room, wide, items)


# --- row by row ---

cdef Py_ssize_t read_in_row(Decoder* dec, Op* op, char* to) noexcept:
    cdef const char* p = dec.p
    cdef uint32_t number
    cdef int source
    if op.code == OP_ROW_COPY:
        memcpy(to, p, op.size)
    elif op.code == OP_ROW_BOOL:
        if load_u8(p) > 1:
            dec.number = load_u8(p)
            return decode_fail(dec, FAULT_BOOL, p)
        to[0] = p[0]
    elif op.code == OP_ROW_ENUM:
        number = load_u32(p)
        if number >= op.number or row_index(op, number) == NO_MEMBER:
            dec.number = number
            return decode_fail(dec, FAULT_VARIANT, p)
        store_u32(to, row_index(op, number))
    elif op.code == OP_ROW_WIDER:
        source = op.kind & 0xFF
        widen(source, op.kind >> 8, p, number_size(source), to, number_size(op.kind >> 8),
              op.size // number_size(source))
    else:  # OP_ROW_DEFAULT, which has no bytes on the wire
        memcpy(to, PyBytes_AS_STRING(<PyObject*>op.ref), PyBytes_GET_SIZE(<PyObject*>op.ref))
    dec.p = p + op.size
    return 0


# --- a whole array ---

cdef object _ndarray = None   # numpy.ndarray


cdef object _over(object data, RowReader reader, Py_ssize_t count):
    # An array in the memory of a bytearray. It takes a third of the time of `numpy.empty` and a view of it.
    global _ndarray
    if _ndarray is None:
        import numpy
        _ndarray = numpy.ndarray
    return _ndarray(count, reader.columns.dtype, data)


# In C, as in new_arrays: a new reference, or NULL with an exception set.
ctypedef PyObject* (*OverFunction)(PyObject*, RowReader, Py_ssize_t) noexcept
cdef OverFunction _make_over = <OverFunction><void*>_over


cdef PyObject* read_rows(Decoder* dec, RowReader reader) noexcept:
    cdef const char* p = dec.p
    cdef Py_ssize_t count
    cdef PyObject* data
    cdef PyObject* result = NULL
    if dec.end - p < 4 or <Py_ssize_t>load_u32(p) > (dec.end - p - 4) // reader.prog.min_size:
        decode_fail(dec, FAULT_EOF, p)
        return NULL
    count = load_u32(p)
    data = PyByteArray_FromStringAndSize(NULL, count * reader.columns.row)
    if data == NULL:
        return NULL
    dec.p = p + 4
    if _fill(dec, reader, count, PyByteArray_AS_STRING(data)):
        result = _make_over(data, reader, count)
    Py_DECREF(data)
    return result


cdef bint _fill(Decoder* dec, RowReader reader, Py_ssize_t count, char* to) noexcept:
    # Returns False for a fault, or if an exception is set.
    cdef Py_ssize_t i
    if reader.is_flat and _read_flat(reader, dec.p, dec.end, count, to):
        dec.p += count * reader.prog.min_size
        return True
    for i in range(count):
        if decode_prog(dec, reader.prog, to + i * reader.columns.row) < 0:
            decode_note_index(dec, i)
            return False
    return True
