"""From annotations to plan nodes, and the instances of `Codec` classes."""
