from deli_com.coding.program cimport Prog


# Where the value ends that begins at `p`; NULL: the bytes end before it does, or it nests too deeply. Nothing
# is made, and nothing is checked but what the length depends on. For programs of a type's own, not for those
# that read another writer's values.
cdef const char* pass_over(Prog* prog, const char* p, const char* end, int depth) noexcept
