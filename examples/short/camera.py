"""A camera on the page at http://127.0.0.1:8765/: a slow browser gets fewer pictures, not older ones."""

import time
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from deli_com import Codec, Shape, WsServer, field, serve_background, u32


class Frame(Codec, policy="latest", retain=True):
    height: u32 = field(default=None, kw_only=True)
    width: u32 = field(default=None, kw_only=True)
    pixels: Annotated[NDArray[np.uint8], Shape("height", "width", 3)]


with serve_background(WsServer[Frame, None].bind("127.0.0.1:8765", page=True)) as server:
    picture = np.fromfunction(lambda y, x, colour: (x + y) * (1 + colour), (240, 320, 3)).astype(np.uint8)
    while True:
        server.send(Frame(np.roll(picture, int(time.time() * 50), axis=1)))  # in place of a camera's picture
        time.sleep(1 / 30)
