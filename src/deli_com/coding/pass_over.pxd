from deli_com.coding.program cimport Prog


# The end of the value that begins at `p`; NULL: the bytes end before it does, or it is nested too deep. No
# object is made, and only what the length depends on is checked. For programs of a type itself, not for those
# that read another writer's values.
cdef const char* pass_over(Prog* prog, const char* p, const char* end, int depth) noexcept
