"""The compiler from plan nodes to flat programs, and the encoder and decoder that run them."""
