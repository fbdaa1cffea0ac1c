"""MCAP recordings of the messages on the wire: writing, reading and repairing them."""
