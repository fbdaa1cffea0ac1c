"""One connection to a peer: its stages, its two wire protocols, and its callbacks."""
