"""Serves viewers that speak Foxglove's protocol, such as Foxglove and Lichtblick, from the logs."""
