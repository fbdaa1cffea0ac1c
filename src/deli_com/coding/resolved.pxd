# The operations of programs that read what another writer sends (adapt.pyx).

from deli_com.coding.columns cimport Columns
from deli_com.coding.program cimport Prog, Program


# A structured array that is read field by field.
cdef class RowReader:
    cdef Columns columns      # of the reader
    cdef Program program      # of one row of the writer's; slots are places in the reader's row
    cdef Prog* prog
    cdef bint is_flat         # rows of the writer have one width: column by column is possible


# Lets the decoder walk such programs; before the first of them runs.
cdef void enable_resolved() noexcept
