"""WebSocket servers and clients: accepting and opening connections."""
