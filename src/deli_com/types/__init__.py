"""Plan nodes from annotations, and the instances of `Codec` classes."""
