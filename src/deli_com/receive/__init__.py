"""The inbox for received values, and `recv`, which takes values from it."""
