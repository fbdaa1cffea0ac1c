"""`Server` and `Client`: typed values over plain TCP, each preceded by its length (docs/wire.md)."""
