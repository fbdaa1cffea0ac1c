# A compiled type: a flat array of operations that encoder and decoder both walk.
#
# An operation works on one slot, at `base + offset`. The base is the address of the variable (or list item)
# that holds the value. ENTER moves it into an instance or tuple, and LEAVE moves it back.

from cpython.object cimport PyObject, PyTypeObject


cdef enum OpCode:
    # Operations of a run. NEED checks the bytes of all operations up to the next one that is not in a run.
    OP_NEED          # size: total bytes of the run
    OP_U8
    OP_U16
    OP_U32
    OP_U64
    OP_I8
    OP_I16
    OP_I32
    OP_I64
    OP_F32
    OP_F64
    OP_BOOL
    OP_ENUM          # ref: Table of members
    OP_TAG           # number: the u32 index that precedes the fields of a variant
    OP_ENTER         # ref: PyTypeObject of the struct; wide: its name in errors
    OP_ENTER_TUPLE   # number: items
    OP_LEAVE
    OP_FIXED_NUMBERS  # number: how many; kind
    OP_NANOSECONDS   # kind: of the int
    OP_DIMENSION     # kind: of the int; ref: PyObject, Dimension (shapes.pxd)
    OP_SHAPE         # behind all fields; ref: PyObject, FieldShape
    # Not in a run: these check for themselves.
    OP_OPTION        # number: operations to skip after None; its flag byte is the last of a run
    OP_STR
    OP_BYTES
    OP_LIST          # ref: Prog of an element
    OP_TUPLE         # ref: Prog of an element
    OP_FIXED         # ref: Prog of an element; number: items
    OP_ARRAY         # kind
    OP_NDARRAY       # kind; number: 1 for an array of one dimension, 0 for one that has its shape elsewhere
    OP_STRUCTURED    # ref: PyObject, Columns of the struct, or of a bool
    OP_SEALED        # ref: Table of variants
    OP_CALL          # ref: Prog of a struct that is recursive, or too long to inline

    # Only in programs that read another writer's values (coding/resolved.pyx). The encoder never gets them.
    # In a run:
    OP_SKIP          # numbers that the reader lacks; number: further OP_SKIPs; kind: bytes of all
    OP_SKIP_BOOL
    OP_SKIP_ENUM     # number: members
    OP_SMALL_INT     # kind: u8 or i8; the slot may hold an int to be overwritten
    OP_AS_FLOAT      # kind: of the integer
    OP_MEMBER        # ref: Table; keys are NULL if the reader lacks the member; kind: 1 at the root
    OP_FIXED_WIDER   # kind: pair of kinds; number: items
    OP_ROW_COPY      # from here on, the slot is memory of a row
    OP_ROW_BOOL
    OP_ROW_ENUM      # number: members; ref: PyBytes, the reader's index (u32) of each, or NO_MEMBER
    OP_ROW_WIDER     # kind: pair of kinds; size: of all items
    # Not in a run:
    OP_ROW_DEFAULT   # ref: PyBytes
    OP_DEFAULT       # ref: the value
    OP_MAKE          # ref: the factory
    OP_SKIP_OPTION   # number: operations to skip after None; its flag byte is the last of a run
    OP_SKIP_STR
    OP_SKIP_SIZED    # number: bytes of an item
    OP_SKIP_LIST     # ref: Prog of an element
    OP_SKIP_FIXED    # ref: Prog of an element; number: items
    OP_SKIP_SEALED   # ref: Table of variants, without keys
    OP_VARIANT       # ref: Table of variants; keys are NULL if the reader lacks it; kind: 1 at the root
    OP_WIDER         # kind: pair of kinds; number: INTO_LIST and so on
    OP_ROWS          # ref: PyObject, RowReader


cdef enum:
    MAX_INLINE = 8            # nested ENTERs; deeper structs are called
    MAX_DEPTH = 200           # nested values of recursive types
    MAX_EMPTY = 65536         # elements without bytes in one list


cdef enum:
    NO_MEMBER = 0xFFFFFFFF
    INTO_LIST = 0             # what the numbers are stored in
    INTO_TUPLE = 1
    INTO_ARRAY = 2
    INTO_NDARRAY = 3


cdef struct Prog:
    Op* ops
    Py_ssize_t count
    Py_ssize_t min_size       # bytes
    Py_ssize_t max_size       # bytes; -1 if unbounded
    bint fixed                # every value has min_size bytes
    bint recursive            # a value can contain one of the same type
    bint leaf                 # the program is one operation: ops[0], or ops[1] after NEED
    PyObject* columns         # borrowed: Columns if the type is a struct of fixed width, else NULL


cdef struct Op:
    int code                  # OpCode
    int kind                  # OpCode of the items of an array
    int tail                  # this is last on the wire if the program is
    int size                  # bytes in its run
    Py_ssize_t offset         # bytes from the base to the slot
    Py_ssize_t number
    void* ref                 # borrowed from Program.keep
    PyObject* path            # borrowed str: the path from the start of the program, ".origin.x"


# Objects found by identity and by index: members of an enum, variants of a sealed class.
cdef struct Table:
    Py_ssize_t count
    PyObject** keys           # by index, borrowed from Program.keep
    Prog** progs              # by index: program of the fields after the index; NULL for enums
    Py_ssize_t mask           # of the hash table: a power of two minus one
    int* slots                # index + 1, or 0
    PyObject* name            # borrowed str: name of the type in errors


cdef inline Py_ssize_t table_find(Table* table, PyObject* key) noexcept:
    # The index of `key`, or -1.
    cdef Py_ssize_t at = (<Py_ssize_t>key >> 4) & table.mask
    while table.slots[at] != 0:
        if table.keys[table.slots[at] - 1] == key:
            return table.slots[at] - 1
        at = (at + 1) & table.mask
    return -1


cdef inline int kinds_pair(int source, int target) noexcept:
    return source | target << 8


cdef class Program:
    cdef Prog prog
    cdef list keep            # owns the objects that operations refer to
    cdef Py_ssize_t room      # number of operations allocated
    cdef Py_ssize_t run       # index of the NEED of the open run, or -1
    cdef list tables          # capsules; they free their tables

    cdef Op* add(self, int code, Py_ssize_t offset, str path) except NULL
    cdef Op* add_fixed(self, int code, Py_ssize_t size, Py_ssize_t offset, str path) except NULL
    cdef Op* add_varying(self, int code, Py_ssize_t offset, str path) except NULL
    cdef void* own(self, object item) except NULL


# Appends the operations of a value in the slot at `offset`. `facts` is the result of graph.check.
cdef int emit_node(Program program, node, Py_ssize_t offset, str path, int depth, dict facts) except -1
cdef Program program_of(node, dict facts)
cdef Table* make_table(Program program, list keys, list variants, str name) except NULL
cdef Py_ssize_t slot_offset(cls, str name) except -1
cdef int mark_box(cls, str name, node) except -1
cdef dict KIND_CODES
