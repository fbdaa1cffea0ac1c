# The operations of programs that read another writer's values (adapt.pyx).


# Enables the decoder to walk such programs. Call it before the first of them runs.
cdef void enable_resolved() noexcept
