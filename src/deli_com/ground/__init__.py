"""The lowest floor: cursors, scalars, CPython and socket calls. Nothing here knows about types."""
