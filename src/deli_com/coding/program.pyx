"""Compiles plan nodes to flat programs (coding/program.pxd has the operations).

Structs are inlined where they are used, so that one bounds check covers fixed-width fields of several
structs. Recursive structs, and those that would make a program long, are called. The program of a class is
made once and kept in its `Spec`.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from libc.string cimport memset

from deli_com.coding.columns import Columns
from deli_com.coding.shapes cimport Dimension, StructShapes, emit_root_shape, emit_shapes, struct_shapes
from deli_com.types import nodes
from deli_com.types.instance cimport BOX_FLOAT, BOX_INT, record_mark_box
from deli_com.types.graph import MAX_SIZE, is_fixed, size_in
from deli_com.types.instance import RecordType, record_spec

cdef extern from *:
    """
    #include <structmember.h>
    static Py_ssize_t dc_member_offset(PyObject *descr) {
        if (Py_TYPE(descr) != &PyMemberDescr_Type) return -1;
        return ((PyMemberDescrObject *)descr)->d_member->offset;
    }
    """
    Py_ssize_t dc_member_offset(PyObject* descr) noexcept

cdef enum:
    MAX_OPERATIONS = 512  # length of a program from which structs are called instead of inlined
    POINTER = sizeof(void*)

KIND_CODES = {
    "u8": OP_U8, "u16": OP_U16, "u32": OP_U32, "u64": OP_U64,
    "i8": OP_I8, "i16": OP_I16, "i32": OP_I32, "i64": OP_I64,
    "f32": OP_F32, "f64": OP_F64,
}


cdef class _Tables:
    # Frees one Table.
    cdef Table table

    def __dealloc__(self):
        PyMem_Free(self.table.keys)
        PyMem_Free(self.table.progs)
        PyMem_Free(self.table.slots)


cdef class Program:
    """One compiled type. It is immutable after `compile_type` has returned it."""

    def __cinit__(self):
        self.keep = []
        self.tables = []
        self.run = -1

    def __dealloc__(self):
        PyMem_Free(self.prog.ops)

    cdef Op* add(self, int code, Py_ssize_t offset, str path) except NULL:
        # Adds an operation at the end. Pointers to earlier operations become invalid.
        cdef Op* ops
        if self.prog.count == self.room:
            ops = <Op*>PyMem_Realloc(self.prog.ops, (self.room * 2 + 8) * sizeof(Op))
            if ops == NULL:
                raise MemoryError
            self.prog.ops = ops
            self.room = self.room * 2 + 8
        ops = &self.prog.ops[self.prog.count]
        memset(ops, 0, sizeof(Op))
        self.prog.count += 1
        ops.code = code
        ops.offset = offset
        self.keep.append(path)
        ops.path = <PyObject*>path
        return ops

    cdef Op* add_fixed(self, int code, Py_ssize_t size, Py_ssize_t offset, str path) except NULL:
        # Adds an operation of `size` bytes to the open run.
        cdef Op* op
        if self.run < 0:
            self.run = self.prog.count
            self.add(OP_NEED, offset, path)
        op = self.add(code, offset, path)
        op.size = <int>size
        self.prog.ops[self.run].number += size
        return op

    cdef Op* add_varying(self, int code, Py_ssize_t offset, str path) except NULL:
        self.run = -1
        return self.add(code, offset, path)

    cdef void* own(self, object item) except NULL:
        self.keep.append(item)
        return <void*>item


def compile_type(node, dict facts, variant=None):
    """Compile one type.

    Parameters
    ----------
    node : Node
        The type.
    facts : dict
        The result of `graph.check` for the classes that the node reaches.
    variant : type, optional
        Compile this variant instead: its index in the sealed class, then its fields.

    Returns
    -------
    Program
    """
    cdef Program program
    if variant is None:
        program = program_of(node, facts)
        emit_root_shape(program, node)
        return program
    program = Program.__new__(Program)
    sealed = record_spec(variant).variant_of
    index = list(record_spec(sealed).variants.values()).index(variant)
    program.add_fixed(OP_TAG, 4, 0, "").number = index
    _emit_struct(program, variant, 0, "", 0, facts)
    _finish(program, nodes.StructNode(variant), facts)
    program.prog.min_size += 4
    if program.prog.max_size >= 0:
        program.prog.max_size += 4
    return program


cdef Program program_of(node, dict facts):
    # The program of a value that is compiled separately: the root, an element, a variant.
    cdef Program program
    is_class = isinstance(node, (nodes.StructNode, nodes.SealedNode, nodes.UnionNode))
    spec = record_spec(node.cls) if is_class else None
    if spec is not None and spec.program is not None:
        return spec.program
    program = Program.__new__(Program)
    if spec is None:
        emit_node(program, node, 0, "", 0, facts)
        _finish(program, node, facts)
        return program
    # Stored before it is complete, for recursive types.
    spec.program = program
    try:
        # A variant is reached only through its sealed class, which counts the depth.
        program.prog.recursive = facts[node.cls].recursive and spec.variant_of is None
        if spec.sealed:
            _emit_sealed(program, spec, facts)
        else:
            _emit_struct(program, node.cls, 0, "", 0, facts)
        _finish(program, node, facts)
    except BaseException:
        spec.program = None
        raise
    return program


cdef int _finish(Program program, node, dict facts) except -1:
    cdef Prog* prog = &program.prog
    cdef Py_ssize_t last
    low, high = size_in(node, facts)
    if low > MAX_SIZE:
        raise TypeError(f"a value takes at least {low} bytes, over the limit of {MAX_SIZE}")
    prog.min_size = int(low)
    prog.max_size = -1 if high > MAX_SIZE else int(high)
    prog.fixed = is_fixed(node, facts)
    prog.leaf = prog.count == 1 or (prog.count == 2 and prog.ops[0].code == OP_NEED)
    if prog.fixed and isinstance(node, nodes.StructNode) and Columns.possible(node.cls):
        columns = Columns.of(node.cls)
        program.keep.append(columns)
        prog.columns = <PyObject*>columns
    last = prog.count - 1
    while last > 0 and (prog.ops[last].code == OP_LEAVE or prog.ops[last].code == OP_SHAPE):
        last -= 1
    if last >= 0:
        prog.ops[last].tail = 1
    return 0


cdef int emit_node(Program program, node, Py_ssize_t offset, str path, int depth, dict facts) except -1:
    # Appends the operations of a value in the slot at `offset`.
    cdef Op* op
    if isinstance(node, nodes.NumberNode):
        if node.nanoseconds:
            program.add_fixed(OP_NANOSECONDS, node.kind.size, offset, path).kind = KIND_CODES[node.kind.name]
        else:
            program.add_fixed(KIND_CODES[node.kind.name], node.kind.size, offset, path)
    elif isinstance(node, nodes.LeafNode):
        if node.name == "bool":
            program.add_fixed(OP_BOOL, 1, offset, path)
        else:
            program.add_varying(OP_STR if node.name == "str" else OP_BYTES, offset, path)
    elif isinstance(node, nodes.EnumNode):
        op = program.add_fixed(OP_ENUM, 4, offset, path)
        op.ref = make_table(program, list(node.cls), None, node.cls.__qualname__)
    elif isinstance(node, nodes.StructNode):
        if facts[node.cls].recursive or depth >= MAX_INLINE or program.prog.count > MAX_OPERATIONS:
            _emit_inner(program, OP_CALL, node, offset, path, facts)
        else:
            _emit_struct(program, node.cls, offset, path, depth, facts)
    elif isinstance(node, (nodes.SealedNode, nodes.UnionNode)):
        _emit_choice(program, node, offset, path, facts)
    elif isinstance(node, nodes.OptionNode):
        _emit_option(program, node, offset, path, depth, facts)
    elif isinstance(node, nodes.ListNode):
        _emit_inner(program, OP_LIST, node.item, offset, path, facts)
    elif isinstance(node, nodes.TupleNode):
        _emit_inner(program, OP_TUPLE, node.item, offset, path, facts)
    elif isinstance(node, nodes.ProductNode):
        if depth >= MAX_INLINE:
            _emit_inner(program, OP_CALL, node, offset, path, facts)
        else:
            _emit_product(program, node, offset, path, depth, facts)
    elif isinstance(node, nodes.FixedNode):
        if isinstance(node.item, nodes.NumberNode) and node.count * node.item.kind.size < 2**31:
            op = program.add_fixed(OP_FIXED_NUMBERS, node.count * node.item.kind.size, offset, path)
            op.number = node.count
            op.kind = KIND_CODES[node.item.kind.name]
        else:
            op = _emit_inner(program, OP_FIXED, node.item, offset, path, facts)
            op.number = node.count
    elif isinstance(node, nodes.ShapedNode):
        _emit_array(program, node.item, offset, path, False)
    else:
        _emit_array(program, node, offset, path, True)
    return 0


cdef int _emit_array(Program program, node, Py_ssize_t offset, str path, bint is_flat) except -1:
    # `is_flat`: of one dimension.
    cdef Op* op
    if isinstance(node, nodes.ArrayNode):
        program.add_varying(OP_ARRAY, offset, path).kind = KIND_CODES[node.kind.name]
    elif isinstance(node, nodes.NdArrayNode) and node.kind.name == "bool":
        op = program.add_varying(OP_STRUCTURED, offset, path)
        op.ref = program.own(Columns(nodes.LeafNode("bool"), "bool"))
        op.number = is_flat
    elif isinstance(node, nodes.NdArrayNode):
        op = program.add_varying(OP_NDARRAY, offset, path)
        op.kind = KIND_CODES[node.kind.name]
        op.number = is_flat
    elif isinstance(node, nodes.StructuredNode):
        columns = Columns.of(node.cls)
        op = program.add_varying(OP_STRUCTURED, offset, path)
        op.ref = program.own(columns)
        op.number = is_flat
    else:
        raise AssertionError(f"no operation for {node!r}")
    return 0


cdef Op* _emit_inner(Program program, int code, node, Py_ssize_t offset, str path, dict facts) except NULL:
    # Appends an operation that runs a program of its own, that of `node`.
    cdef Program inner = program_of(node, facts)
    cdef Op* op = program.add_varying(code, offset, path)
    op.ref = _own_prog(program, inner)
    return op


cdef int _emit_choice(Program program, node, Py_ssize_t offset, str path, dict facts) except -1:
    cdef Program inner = program_of(node, facts)
    cdef Op* op = program.add_varying(OP_CALL if inner.prog.recursive else OP_SEALED, offset, path)
    program.keep.append(inner)
    op.ref = <void*>&inner.prog if inner.prog.recursive else inner.prog.ops[0].ref
    return 0


cdef int _emit_option(Program program, node, Py_ssize_t offset, str path, int depth, dict facts) except -1:
    cdef Py_ssize_t at
    program.add_fixed(OP_OPTION, 1, offset, path)
    program.run = -1
    at = program.prog.count - 1
    emit_node(program, node.item, offset, path, depth, facts)
    program.run = -1
    program.prog.ops[at].number = program.prog.count - at - 1
    return 0


cdef int _emit_product(Program program, node, Py_ssize_t offset, str path, int depth, dict facts) except -1:
    cdef Py_ssize_t at
    program.add(OP_ENTER_TUPLE, offset, path).number = len(node.items)
    for at, item in enumerate(node.items):
        emit_node(program, item, at * POINTER, f"{path}[{at}]", depth + 1, facts)
    program.add(OP_LEAVE, 0, path).number = len(node.items)
    return 0


cdef int _emit_struct(Program program, cls, Py_ssize_t offset, str path, int depth, dict facts) except -1:
    cdef Op* op = program.add(OP_ENTER, offset, path)
    op.ref = program.own(cls)
    cdef StructShapes shapes = struct_shapes(cls)
    for name, node in record_spec(cls).nodes():
        if shapes is not None and name in shapes.offsets:
            op = program.add_fixed(OP_DIMENSION, node.kind.size, slot_offset(cls, name), f"{path}.{name}")
            op.kind = KIND_CODES[node.kind.name]
            op.ref = program.own(Dimension(shapes, name))
        else:
            emit_node(program, node, slot_offset(cls, name), f"{path}.{name}", depth + 1, facts)
        mark_box(cls, name, node)
    if shapes is not None:
        emit_shapes(program, shapes, path)
    op = program.add(OP_LEAVE, 0, path)
    op.ref = <void*>cls
    return 0


cdef int mark_box(cls, str name, node) except -1:
    if isinstance(node, nodes.NumberNode) and node.kind.size > 1 and not node.nanoseconds:
        # (All ints of one byte exist already.)
        record_mark_box(cls, name, BOX_FLOAT if node.kind.name in ("f32", "f64") else BOX_INT)
    return 0


cdef int _emit_sealed(Program program, spec, dict facts) except -1:
    program.add_varying(OP_SEALED, 0, "")
    variants = list(spec.variants.values())
    # The table is made before the variants are compiled, because a recursive one refers to it.
    cdef Table* table = make_table(program, variants, variants, spec.cls.__qualname__)
    cdef Py_ssize_t i
    program.prog.ops[0].ref = table
    for i, cls in enumerate(variants):
        table.progs[i] = <Prog*>_own_prog(program, program_of(nodes.StructNode(cls), facts))
    return 0


cdef void* _own_prog(Program program, Program inner) except NULL:
    program.keep.append(inner)
    return &inner.prog


cdef Table* make_table(Program program, list keys, list variants, str name) except NULL:
    cdef _Tables owner = _Tables.__new__(_Tables)
    cdef Table* table = &owner.table
    cdef Py_ssize_t count = len(keys), size = 4, i, at
    while size < 2 * count:
        size *= 2
    table.keys = <PyObject**>PyMem_Calloc(count, sizeof(PyObject*))
    table.progs = <Prog**>PyMem_Calloc(count, sizeof(Prog*)) if variants is not None else NULL
    table.slots = <int*>PyMem_Calloc(size, sizeof(int))
    if table.keys == NULL or table.slots == NULL or (variants is not None and table.progs == NULL):
        raise MemoryError
    table.count = count
    table.mask = size - 1
    program.keep += keys
    program.keep.append(name)
    program.tables.append(owner)
    table.name = <PyObject*>name
    for i, key in enumerate(keys):
        if key is None:  # a key that the reader lacks (adapt.pyx)
            continue
        table.keys[i] = <PyObject*>key
        at = (<Py_ssize_t><PyObject*>key >> 4) & table.mask
        while table.slots[at] != 0:
            at = (at + 1) & table.mask
        table.slots[at] = <int>(i + 1)
    return table


cdef Py_ssize_t slot_offset(cls, str name) except -1:
    for base in cls.__mro__:
        if isinstance(base, RecordType) and name in vars(base):
            member = vars(base)[name]
            return dc_member_offset(<PyObject*>member)
    raise AssertionError(f"{cls.__qualname__} has no slot {name}")
