"""Camera frames to a page in the browser, which draws them on a canvas.

Run ``python examples/camera/camera.py`` and open the address that it prints. There is no camera: numpy draws
the frames. The page is in ``page/``; ``page/reader.js`` decodes the bytes that `Frame` becomes.
"""

import argparse
import asyncio
import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from deli_com import Codec, WsServer, u16, u32

PAGE = Path(__file__).parent / "page"


# A page that cannot keep up gets the newest frame of each camera, and skips the others.
class Frame(Codec, policy="latest", key="camera"):
    camera: str
    number: u32
    width: u16
    height: u16
    pixels: bytes  # RGBA, row by row from the top


def draw(number: int, width: int = 320, height: int = 240) -> bytes:
    """Draw the frame of this number: moving colours, and a white square that walks to the right."""
    y, x = np.mgrid[:height, :width]
    picture = np.full((height, width, 4), 255, np.uint8)
    picture[..., 0] = x + number
    picture[..., 1] = y + 2 * number
    picture[..., 2] = x ^ y
    left = 4 * number % (width - 32)
    picture[height // 2 - 16 : height // 2 + 16, left : left + 32] = 255
    return picture.tobytes()


class PageHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Keep quiet about requests."""


def serve_page(port: int) -> ThreadingHTTPServer:
    """Serve the page's files from a thread."""
    handler = functools.partial(PageHandler, directory=PAGE)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


async def main(port: int, page_port: int, fps: float) -> None:
    page = serve_page(page_port)
    # None: this server receives nothing.
    async with WsServer[Frame, None].bind(("127.0.0.1", port)) as server:
        # A page may connect if it comes from the same host, as here; others need `origins=`.
        print(f"open http://127.0.0.1:{page.server_port}/#ws://{server.local_addr()}", flush=True)
        number = 0
        while True:
            server.send_nowait(Frame("front", number, 320, 240, draw(number)))
            number += 1
            await asyncio.sleep(1 / fps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Camera frames to a page in the browser.")
    parser.add_argument("--port", type=int, default=8765, help="of the frames")
    parser.add_argument("--page-port", type=int, default=8080, help="of the page")
    parser.add_argument("--fps", type=float, default=30)
    options = parser.parse_args()
    try:
        asyncio.run(main(options.port, options.page_port, options.fps))
    except KeyboardInterrupt:
        pass
