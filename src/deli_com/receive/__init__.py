"""Received values, and those who wait for them."""
