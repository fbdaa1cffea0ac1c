"""Who follows the logs: flushing, pacing, limits, delivery policies."""
