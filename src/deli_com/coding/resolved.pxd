# The operations of programs that read what another writer sends (adapt.pyx).


# Lets the decoder walk such programs; before the first of them runs.
cdef void enable_resolved() noexcept
