"""What everything stands on: cursors, scalars, CPython and socket calls. Nothing here knows a type."""
