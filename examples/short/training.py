"""A training loop whose loss is plotted at http://127.0.0.1:8765/, and that a page may tell to stop."""

import numpy as np

from deli_com import Codec, WsServer, f64, serve_background, u32


class Step(Codec, policy="latest", retain=True):
    number: u32
    loss: f64


class Stop(Codec):
    pass


with serve_background(WsServer[Step, Stop].bind("127.0.0.1:8765", page="send")) as server:
    inputs = np.random.default_rng(1).normal(size=(1000, 20))
    wanted, weights = inputs @ np.arange(20), np.zeros(20)
    number = 0
    while server.stats().messages_in == 0:
        error = inputs @ weights - wanted
        weights -= 1e-6 * (inputs.T @ error)
        server.send_nowait(Step(number := number + 1, float(error @ error)))
print(f"stopped after {number} steps")
