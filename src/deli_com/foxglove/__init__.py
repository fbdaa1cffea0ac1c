"""Viewers: Foxglove, Lichtblick and what else speaks their protocol, served from the logs."""
