"""The followers of the logs: flushing, pacing, limits, delivery policies."""
