"""The broadcast log: memory, records, frames, and what one follower reads of it next."""
