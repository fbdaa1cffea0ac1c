"""From plan nodes to flat programs, and from values to bytes and back."""
