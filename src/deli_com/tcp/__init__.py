"""`Server` and `Client`: typed values over plain TCP, each behind its length (docs/wire.md)."""
