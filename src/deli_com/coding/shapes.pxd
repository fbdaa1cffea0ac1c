# Arrays with a shape: what operations refer to, and how they check it or give it.

from deli_com.coding.decode_errors cimport Decoder
from deli_com.coding.encoder cimport Encoder
from deli_com.coding.program cimport Op, Program


cdef class StructShapes:
    # Of one struct: what its shapes name, and where in an instance that is.
    cdef dict offsets        # name of a dimension -> offset of its slot, in bytes
    cdef list arrays         # (name, offset of the slot, dimensions) of each field that has a shape


cdef class Dimension:
    # What OP_DIMENSION refers to.
    cdef StructShapes shapes
    cdef str name


cdef class FieldShape:
    # What OP_SHAPE refers to.
    cdef StructShapes shapes
    cdef tuple dims


# None for a struct without shapes.
cdef StructShapes struct_shapes(object cls)

# The OP_SHAPE of all arrays of a struct, behind what reads or writes its fields.
cdef int emit_shapes(Program program, StructShapes shapes, str path) except -1

# The OP_SHAPE of a type that is no struct, where it has a shape.
cdef int emit_root_shape(Program program, object node) except -1

# Writes the number of an OP_DIMENSION, which may be None in the value. May run Python code.
cdef int encode_dimension(Encoder* enc, Op* op, char* base, char* p) noexcept

# Whether the arrays of an OP_SHAPE have it. May run Python code.
cdef int check_shape(Encoder* enc, Op* op, char* base) noexcept

# Gives flat arrays their shape, by a view of them.
cdef int give_shape(Decoder* dec, Op* op, char* base) noexcept
