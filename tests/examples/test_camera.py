"""examples/camera: a browser draws exactly the pixels of the frame that the server sent."""

from __future__ import annotations

import base64
import signal
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Tab, browser
from programs import ended, line_of, module, running

from deli_com import Array, Codec, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64

# Number and pixels of what the canvas shows, read in one turn of the page.
PICTURE = """
(() => {
  const canvas = document.getElementById("picture");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let binary = "";
  for (let at = 0; at < pixels.length; at += 32768) {
    binary += String.fromCharCode(...pixels.subarray(at, at + 32768));
  }
  return { number: Number(canvas.dataset.frame), width: canvas.width, height: canvas.height,
           pixels: btoa(binary) };
})()
"""
# The page reconnects after a second, and then reports that this failed. Keep all messages.
RECORD = """
{
  const status = document.getElementById("status");
  window.closings = [];
  new MutationObserver(() => {
    if (status.innerText.startsWith("closed")) window.closings.push(status.innerText);
  }).observe(status, { childList: true });
}
"""
SHOWS = "(document.getElementById('picture') ?? {dataset: {}}).dataset.frame"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with browser(tmp_path) as tab:
        yield tab


def picture(tab: Tab) -> tuple[int, int, int, bytes]:
    found = tab.evaluate(PICTURE)
    return found["number"], found["width"], found["height"], base64.b64decode(found["pixels"])


def test_drawn_pixels_are_the_sent_ones(tab: Tab) -> None:
    """A page draws the frames of a `WsServer`, each pixel as it was sent, and says how the server closed."""
    camera = module("camera/camera.py")
    with running("camera/camera.py", "--port", "0", "--page-port", "0") as process:
        tab.open(line_of(process).removeprefix("open "))
        tab.until(f"Number({SHOWS}) >= 0")
        first, width, height, pixels = picture(tab)
        assert (width, height) == (320, 240)
        assert pixels == camera.draw(first, width, height)
        tab.until(f"Number({SHOWS}) > {first} + 5")
        later, width, height, pixels = picture(tab)
        assert later > first + 5
        assert pixels == camera.draw(later, width, height)
        tab.evaluate(RECORD)
        process.send_signal(signal.SIGINT)
        assert ended(process) == ""
        assert tab.until("window.closings[0]") == "closed (1001) the server is closing"


class Everything(Codec):
    """What reader.js reads; every number lies at an odd offset, the array too."""

    mark: u8
    a: u16
    b: u32
    c: u64
    d: i8
    e: i16
    f: i32
    g: i64
    h: f32
    i: f64
    j: bool
    text: str
    data: bytes
    words: list[str]
    samples: Array[f32]


FIELDS: dict[str, str] = {
    "mark": "u8()",
    "a": "u16()",
    "b": "u32()",
    "c": "u64().toString()",
    "d": "i8()",
    "e": "i16()",
    "f": "i32()",
    "g": "i64().toString()",
    "h": "f32()",
    "i": "f64()",
    "j": "bool()",
    "text": "str()",
    "data": "bytes()",
    "words": "list(() => reader.str())",
    "samples": "array(Float32Array)",
}


def read_by_page(tab: Tab, raw: bytes) -> Any:
    """What reader.js makes of the bytes of an `Everything`; the text of the error if it throws."""
    fields = ", ".join(f"{name}: Array.from([reader.{call}]).map(plain)[0]" for name, call in FIELDS.items())
    return tab.evaluate(
        f"""
        (async () => {{
          const {{ Reader }} = await import("./reader.js");
          const plain = value => ArrayBuffer.isView(value) ? Array.from(value) : value;
          const reader = new Reader(new Uint8Array({list(raw)}).buffer);
          try {{
            return {{ {fields}, rest: reader.view.byteLength - reader.at }};
          }} catch (error) {{
            return error.name;
          }}
        }})()
        """
    )


def test_reader_reads_every_type(tab: Tab) -> None:
    """reader.js reads what the codec writes, at any offset, and refuses a message that ends early."""
    page = module("camera/camera.py").serve_page(0)
    try:
        tab.open(f"http://127.0.0.1:{page.server_port}/")
        tab.until("document.readyState === 'complete'")
        value = Everything(
            255, 513, 2**32 - 1, 2**64 - 1, -1, -2, -(2**31), -(2**63), 1.5, -0.1, True,
            "h\u00e9llo \u4e2d", b"\x00\xff", ["ab", ""], array("f", [1.5, -3.0]),
        )  # fmt: skip
        raw = value.to_bytes()
        assert (len(raw) - 8) % 4, "the array is at an offset that Float32Array refuses"
        assert read_by_page(tab, raw) == {
            "mark": 255, "a": 513, "b": 2**32 - 1, "c": str(2**64 - 1), "d": -1, "e": -2, "f": -(2**31),
            "g": str(-(2**63)), "h": 1.5, "i": -0.1, "j": True, "text": "h\u00e9llo \u4e2d", "data": [0, 255],
            "words": ["ab", ""], "samples": [1.5, -3.0], "rest": 0,
        }  # fmt: skip
        for size in (len(raw) - 1, len(raw) - 8, 2, 0):
            assert read_by_page(tab, raw[:size]) == "RangeError", size
    finally:
        page.shutdown()
        page.server_close()
