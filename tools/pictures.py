"""Takes the pictures of the documentation: ``python tools/pictures.py [FOLDER]`` (docs/pictures).

The demo's page is opened in a headless Chromium: dark for the README, and with `--all` also light, as on a
phone, and the first page of the site, to look at. A picture has no more than 256 colours, and is kept small.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from chromium import Tab, tab  # type: ignore[import-not-found]  # noqa: E402

# Rows that are open in the list, so that the picture shows the robots.
READY = "document.querySelectorAll('.plot canvas').length > 0"
SETTLE_S = 6.0  # of values, for the plot


def small(path: Path, colours: int = 128) -> None:
    """Write the picture again with few colours."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def take(
    page: Tab, url: str, path: Path, *, width: int, height: int, scheme: str = "dark", wait: float
) -> None:
    page.size(width, height, mobile=width < 500)
    page.scheme(scheme)
    page.open(url)
    page.until(READY if wait else "true")
    time.sleep(wait)
    page.picture(path)
    small(path)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of the documentation.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs/pictures")
    parser.add_argument("--all", action="store_true", help="also those that are only to look at")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "deli_com", "demo", "--seconds", "120", "--clients", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as demo:
        try:
            assert demo.stdout is not None
            while not (found := re.search(r"http://127\.0\.0\.1:\d+/", line := demo.stdout.readline())):
                assert line, "the demo ended"
            url = found[0]
            with tab() as (page, _):
                page.call("Page.enable")
                take(page, url, options.folder / "page.png", width=1120, height=700, wait=SETTLE_S)
                if options.all:
                    look = options.folder
                    take(page, url, look / "light.png", width=1280, height=800, scheme="light", wait=SETTLE_S)
                    take(page, url, look / "phone.png", width=390, height=844, wait=SETTLE_S)
                    site = (ROOT / "build/site/index.html").as_uri()
                    take(page, site, look / "site.png", width=1280, height=800, scheme="light", wait=0)
                    quickstart = (ROOT / "build/site/guide/quickstart.html").as_uri()
                    take(page, quickstart, look / "site-dark.png", width=1280, height=800, wait=0)
        finally:
            demo.terminate()


if __name__ == "__main__":
    main()
