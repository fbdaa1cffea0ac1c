"""What went over the wire, kept in a file: MCAP recordings, written, read and mended."""
