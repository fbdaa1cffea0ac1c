"""WebSocket: accepting and opening connections, servers and clients."""
