"""The page of `bind(page=True)` in a headless Chromium: what it shows, and what it must not do."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import struct
import threading
import time
import zlib
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Tab, browser
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.sync.server import ServerConnection, serve

from deli_com import Array, Background, Codec, WsServer, f32, f64, i64, serve_background, u8, u16, u32, u64
from deli_com.page.html import made_page

# Rows in sight, from the top.
ROWS = """
[...document.querySelectorAll("#list .row:not([hidden])")]
  .map((row) => ({ top: row.getBoundingClientRect().top, row }))
  .sort((a, b) => a.top - b.top)
  .map(({ row }) => ({
    name: row.querySelector(".label").textContent, value: row.querySelector(".value").textContent,
    rate: row.querySelector(".rate").textContent, age: row.querySelector(".age").textContent,
    act: row.querySelector(".act").hidden ? "" : row.querySelector(".act").textContent,
    level: Number(row.getAttribute("aria-level")), open: row.getAttribute("aria-expanded") }))
"""
VALUE = f"({ROWS}).find((row) => row.name === %s)?.value"
STATE = "document.documentElement.dataset.state"
STATE_TEXT = "document.getElementById('state-text').textContent"


class Side(enum.Enum):
    LEFT = enum.auto()
    RIGHT = enum.auto()


class Vector(Codec):
    x: f32
    y: f32


class Wheel(Codec):
    name: str
    speed: f32
    at: Vector


class Message(Codec, sealed=True):
    pass


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str
    at: Vector
    count: u64
    side: Side
    offset: f64 | None


class Wheels(Message, policy="latest", retain=True):
    wheels: list[Wheel]
    ranges: Array[f32]


class Camera(Message, policy="latest", retain=True):
    image: bytes


class Raw(Message, policy="latest", retain=True):
    width: u16
    height: u16
    pixels: bytes


class Order(Codec, sealed=True):
    pass


class Go(Order):
    speed: f32
    side: Side
    name: str
    ticks: list[u32]
    limit: i64 | None
    data: bytes
    at: Vector
    fast: bool


class Stop(Order):
    pass


def pose(robot: str = "r1", x: float = 1.5, **fields: Any) -> Pose:
    found: dict[str, Any] = dict(at=Vector(x, -2.0), count=2**60 + 1, side=Side.RIGHT, offset=None)
    return Pose(robot=robot, **(found | fields))


@pytest.fixture(scope="module")
def own_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        tab.call("Page.enable")
        tab.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="""
            window.faults = [];
            addEventListener("error", (event) => window.faults.push(event.message));
            addEventListener("unhandledrejection", (event) => window.faults.push(String(event.reason)));
            addEventListener("securitypolicyviolation", (event) => window.faults.push(event.violatedDirective));
            """,
        )
        yield tab


@pytest.fixture
def tab(own_browser: Tab) -> Iterator[Tab]:
    metrics = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    own_browser.call("Emulation.setDeviceMetricsOverride", **metrics)
    yield own_browser
    assert own_browser.evaluate("window.faults ?? []") == []
    own_browser.open("about:blank")


@contextlib.contextmanager
def serving(tp: Any = Message, up: Any = Order, **options: Any) -> Iterator[Background[Any, Any]]:
    bound = WsServer[tp, up].bind("127.0.0.1:0", **({"page": True} | options))
    with serve_background(bound) as server:
        yield server


def look(tab: Tab, server: Background[Any, Any], rest: str = "") -> None:
    """Open its page."""
    tab.open("about:blank")
    tab.open(f"http://{server.local_addr()}/{rest}")
    tab.until("document.readyState === 'complete'")


def rows(tab: Tab) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in tab.evaluate(ROWS)}


def value(tab: Tab, name: str) -> Any:
    return tab.evaluate(VALUE % json.dumps(name))


def shows(tab: Tab, name: str, text: str) -> None:
    tab.until(f"{VALUE % json.dumps(name)} === {json.dumps(text)}")


def click(tab: Tab, name: str, part: str = "") -> None:
    tab.evaluate(
        f"""(() => {{
        const row = [...document.querySelectorAll("#list .row:not([hidden])")]
          .find((each) => each.querySelector(".label").textContent === {json.dumps(name)});
        ({json.dumps(part)} === "" ? row : row.querySelector({json.dumps(part)})).click();
        }})()"""
    )


def key(tab: Tab, name: str) -> None:
    text = {"text": name} if len(name) == 1 else {}
    tab.call("Input.dispatchKeyEvent", type="keyDown", key=name, **text)
    tab.call("Input.dispatchKeyEvent", type="keyUp", key=name)


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    raw = (b"\0" + bytes(colour) * width) * height
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*parts, (b"IEND", b"")]
    )


class TestList:
    def test_the_newest_value_of_each_class_and_key(self, tab: Tab) -> None:
        with serving() as server:
            server.send(pose("r1"))
            server.send(pose("r2", x=9.0))
            look(tab, server)
            tab.until(f"({ROWS}).some((row) => row.name === 'r2')")
            tab.until(f"{STATE_TEXT} === 'live'")
            found = [(row["name"], row["value"]) for row in tab.evaluate(ROWS)]
            assert found == [
                ("Pose", "2 keys"),
                *[("r1", ""), ("at", ""), ("x", "1.5"), ("y", "-2")],
                *[("count", str(2**60 + 1)), ("side", "RIGHT"), ("offset", "null")],
                *[("r2", ""), ("at", ""), ("x", "9"), ("y", "-2")],
                *[("count", str(2**60 + 1)), ("side", "RIGHT"), ("offset", "null")],
            ]
            server.send(pose("r1", side=Side.LEFT, offset=0.25))
            shows(tab, "side", "LEFT")
            shows(tab, "offset", "0.25")
            assert rows(tab)["r1"]["age"].endswith(" s")
            assert tab.evaluate("document.title").startswith("Message – 127.0.0.1:")

    def test_keys_are_sorted_by_their_numbers_also_those_that_come_later(self, tab: Tab) -> None:
        keys = f"({ROWS}).filter((row) => row.level === 2).map((row) => row.name).join()"
        with serving() as server:
            for robot in ("r10", "b", "r2", "r9", "B"):
                server.send(pose(robot))
            look(tab, server)
            tab.until(f"{keys} === 'b,B,r2,r9,r10'")
            for robot in ("r1", "z", "a", "r3"):
                server.send(pose(robot))
            tab.until(f"{keys} === 'a,b,B,r1,r2,r3,r9,r10,z'")

    def test_a_class_without_a_key_stands_for_itself(self, tab: Tab) -> None:
        with serving(Vector, None) as server:
            look(tab, server)
            tab.until(f"{STATE_TEXT} === 'live'")
            assert (
                tab.evaluate("document.getElementById('empty').textContent") == "Waiting for the first value."
            )
            server.send(Vector(0.5, 1e20))
            shows(tab, "x", "0.5")
            assert value(tab, "y") == "1.0000e+20"
            assert [row["level"] for row in tab.evaluate(ROWS)] == [1, 2, 2]

    def test_numbers_do_not_change_their_width(self, tab: Tab) -> None:
        with serving(Vector, None) as server:
            look(tab, server)
            tab.until(f"{STATE_TEXT} === 'live'")
            widths = set()
            for n, x in enumerate((0.25, -0.125, 0.0, 1.0)):
                server.send(Vector(x, float(n)))
                shows(tab, "y", str(n))
                widths.add(len(value(tab, "x")))
            assert value(tab, "x") == "\u20071.000"
            assert len(widths) == 2  # before and after the third digit was needed

    def test_rows_open_and_close(self, tab: Tab) -> None:
        with serving() as server:
            server.send(Wheels([Wheel(str(n), n, Vector(n, 0)) for n in range(300)], array("f", [1, 2])))
            look(tab, server)
            tab.until(f"({ROWS}).length > 1")
            assert rows(tab)["wheels"]["open"] == "false"
            assert value(tab, "wheels").startswith('300 × [name "0"  speed 0')
            click(tab, "wheels")
            tab.until(f"({ROWS}).some((row) => row.name === '[3]')")
            tab.evaluate("document.getElementById('list').scrollTop = 1e9")
            tab.until(f"({ROWS}).some((row) => row.name === '… 44 more')")
            tab.evaluate("document.getElementById('list').scrollTop = 0")
            tab.until(f"({ROWS}).some((row) => row.name === 'wheels')")
            click(tab, "wheels")
            tab.until(f"!({ROWS}).some((row) => row.name === '[3]')")

    def test_filter(self, tab: Tab) -> None:
        with serving() as server:
            for n in range(20):
                server.send(pose(f"robot-{n}", x=float(n)))
            look(tab, server)
            tab.until(f"({ROWS}).length > 10")
            key(tab, "/")
            tab.call("Input.insertText", text="ROBOT-17 at")
            tab.until(f"({ROWS}).length === 5")
            assert [row["name"] for row in tab.evaluate(ROWS)] == ["Pose", "robot-17", "at", "x", "y"]
            assert value(tab, "x") == "17"
            tab.call("Input.insertText", text=" nowhere")
            tab.until("document.getElementById('empty').textContent === 'No name matches.'")
            key(tab, "Escape")
            tab.until(f"({ROWS}).length > 10")

    def test_pause_keeps_what_is_shown_and_loses_nothing(self, tab: Tab) -> None:
        with serving() as server:
            server.send(pose("r1", x=1.0))
            look(tab, server)
            shows(tab, "x", "1")
            key(tab, " ")
            tab.until("document.getElementById('pause-text').textContent === 'Go on'")
            for n in range(5):
                server.send(pose("r1", x=5.0 + n))
            tab.until(f"{STATE_TEXT} === 'paused, 5 since'")
            assert value(tab, "x") == "1"
            tab.evaluate("document.getElementById('pause').click()")
            shows(tab, "x", "9")
            tab.until(f"{STATE_TEXT} === 'live'")

    def test_what_holds_itself(self, tab: Tab) -> None:
        with serving(Deep, None) as server:
            value: Deep | None = None
            for _ in range(150):
                value = Deep(value)
            server.send(value)
            look(tab, server)
            tab.until(f"({ROWS}).length === 4")
            for _ in range(3):
                click(tab, "inner")
                break
            assert tab.evaluate("document.querySelectorAll('.value.bad').length") == 0

    def test_rate_and_age(self, tab: Tab) -> None:
        with serving() as server:
            look(tab, server)
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                server.send(pose("r1"))
                time.sleep(0.02)
            rate = rows(tab)["r1"]["rate"]
            assert rate.endswith(" Hz") and 5 < float(rate.split()[0]) < 60
            tab.until(f"parseFloat(({ROWS}).find((row) => row.name === 'r1').age) >= 1")


class Deep(Codec, policy="latest", retain=True):
    inner: Deep | None


class TestBoard:
    def test_a_plot_of_any_number_on_a_click(self, tab: Tab) -> None:
        with serving() as server:
            server.send(pose("r1", x=1.0))
            server.send(pose("r2", x=2.0))
            look(tab, server)
            shows(tab, "x", "1")
            click(tab, "x")
            legend = "[...document.querySelectorAll('.legend button')].map((each) => each.textContent)"
            tab.until(f"({legend}).length === 1")
            for n in range(50):
                server.send(pose("r1", x=math.sin(n)))
            tab.until(f"({legend})[0].startsWith('Pose[r1].at.x') && !({legend})[0].endsWith('1')")
            # Something of the line's colour is drawn.
            tab.until(
                """(() => {
                const canvas = document.querySelector(".plot canvas");
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                const [r, g, b] = document.documentElement.dataset.theme === "dark" ? [90, 167, 255] : [11, 95, 201];
                let found = 0;
                for (let i = 0; i < data.length; i += 4) {
                  found += data[i] === r && data[i + 1] === g && data[i + 2] === b;
                }
                return found > 20;
                })()"""
            )
            assert "watch=Pose%5Br1%5D.at.x" in tab.evaluate("location.hash")
            click(tab, "count")
            tab.until(f"({legend}).length === 2")
            click(tab, "x")
            tab.until(f"({legend}).length === 1")

    def test_the_fragment_opens_what_was_open(self, tab: Tab) -> None:
        with serving() as server:
            look(tab, server, "#watch=Pose%5Br2%5D.at.x%0APose%5Br1%5D.at.x%0AWheels.wheels&span=120")
            server.send(pose("r1"))
            tab.until("document.querySelectorAll('.legend button').length === 1")
            server.send(pose("r2"))
            tab.until("document.querySelectorAll('.legend button').length === 2")
            assert (
                tab.evaluate("document.querySelectorAll('article.plot').length") == 1
            )  # one field, two keys
            assert tab.evaluate("document.querySelector('[aria-checked=true]').textContent") == "2 min"
            assert "Wheels.wheels" in tab.evaluate("location.hash")  # still wanted

    def test_what_is_moving_is_plotted_by_itself(self, tab: Tab) -> None:
        with serving() as server:
            look(tab, server)
            for n in range(200):
                server.send(pose("r1", x=n / 7))
                if tab.evaluate("document.querySelectorAll('article.plot').length"):
                    break
                time.sleep(0.02)
            assert tab.evaluate("document.querySelector('.legend .what').textContent") == "Pose[r1].at.x"

    def test_pictures(self, tab: Tab) -> None:
        with serving() as server:
            server.send(Camera(png(16, 9, (250, 0, 10))))
            look(tab, server)
            tab.until("Number(document.querySelector('.picture canvas')?.dataset.count) > 0")
            pixel = "[...document.querySelector('.picture canvas').getContext('2d').getImageData(3, 3, 1, 1).data]"
            assert tab.evaluate(pixel) == [250, 0, 10, 255]
            size = "[document.querySelector('.picture canvas').width, document.querySelector('.picture canvas').height]"
            assert tab.evaluate(size) == [16, 9]
            server.send(Camera(png(8, 4, (1, 2, 3))))
            tab.until(f"({size})[0] === 8")
            server.send(Camera(b"\xff\xd8\xff no picture"))
            tab.until("document.querySelector('.card .more').textContent === 'the picture is damaged'")
            server.send(
                Camera(
                    b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 100_000, 100_000) + bytes(20)
                )
            )
            tab.until("document.querySelector('.card .more').textContent.endsWith('too large')")

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_raw_pictures_by_the_fields_beside_them(self, tab: Tab, channels: int) -> None:
        with serving() as server:
            server.send(Raw(4, 3, bytes((10, 20, 30, 255)[:channels]) * 12))
            look(tab, server)
            tab.until("Number(document.querySelector('.picture canvas')?.dataset.count) > 0")
            pixel = "[...document.querySelector('.picture canvas').getContext('2d').getImageData(3, 2, 1, 1).data]"
            assert tab.evaluate(pixel) == ([10, 10, 10, 255] if channels == 1 else [10, 20, 30, 255])

    def test_tables_and_profiles(self, tab: Tab) -> None:
        with serving() as server:
            wheels = [Wheel("left", 1.5, Vector(1, 2)), Wheel("right", 2.5, Vector(3, 4))]
            server.send(Wheels(wheels, array("f", [1, 2, 3])))
            look(tab, server, "#watch=Wheels.wheels%0AWheels.ranges")
            cells = "[...document.querySelectorAll('tr')].map((row) => [...row.cells].map((each) => each.textContent))"
            tab.until(f"({cells}).length === 3")
            assert tab.evaluate(cells) == [
                ["#", "name", "speed", "at.x", "at.y"],
                ["0", '"left"', "1.5", "1", "2"],
                ["1", '"right"', "2.5", "3", "4"],
            ]
            server.send(Wheels(wheels[:1], array("f", [5])))
            tab.until(f"({cells}).length === 2")
            tab.until("document.querySelector('.plot .more').textContent === '1 × f32'")

    def test_copy_as_json(self, tab: Tab) -> None:
        with serving() as server:
            server.send(pose("r1", offset=float("nan")))
            look(tab, server)
            shows(tab, "x", "1.5")
            # What would go to the clipboard, which a headless browser does not give.
            tab.evaluate(
                "Object.defineProperty(navigator, 'clipboard', {configurable: true, value: "
                "{writeText: async (text) => { window.copied = text; }}})"
            )
            click(tab, "r1", ".copy")
            copied = tab.until("window.copied")
            assert str(2**60 + 1) in copied
            assert json.loads(copied) == {
                "kind": "Pose",
                "robot": "r1",
                "at": {"x": 1.5, "y": -2},
                "count": 2**60 + 1,
                "side": "RIGHT",
                "offset": "nan",
            }
            assert tab.until("document.getElementById('toast').textContent") == "Copied Pose[r1]"

    def test_keyboard(self, tab: Tab) -> None:
        with serving() as server:
            server.send(pose("r1"))
            look(tab, server)
            shows(tab, "x", "1.5")
            for _ in range(4):
                key(tab, "ArrowDown")
            tab.until("document.querySelector('.row.chosen .label')?.textContent === 'x'")
            key(tab, "Enter")
            tab.until("document.querySelector('.legend .what')?.textContent === 'Pose[r1].at.x'")
            key(tab, "ArrowLeft")
            key(tab, "ArrowLeft")
            tab.until(f"!({ROWS}).some((row) => row.name === 'x')")
            key(tab, "ArrowRight")
            shows(tab, "x", "1.5")
            before = tab.evaluate("document.documentElement.dataset.theme")
            key(tab, "t")
            assert tab.evaluate("document.documentElement.dataset.theme") != before
            key(tab, "t")
            key(tab, "?")
            tab.until("document.getElementById('help-box').open")
            key(tab, "Escape")

    def test_on_a_phone_plots_have_a_tab(self, tab: Tab) -> None:
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True
        )
        with serving() as server:
            server.send(pose("r1"))
            look(tab, server, "#watch=Pose%5Br1%5D.at.x")
            shows(tab, "x", "1.5")
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390
            visible = "getComputedStyle(document.getElementById('%s')).display !== 'none'"
            assert tab.evaluate(visible % "values") and not tab.evaluate(visible % "watch")
            assert tab.until("document.getElementById('card-count').textContent") == "(1)"
            tab.evaluate("document.querySelector('#tabs [data-tab=watch]').click()")
            assert tab.evaluate(visible % "watch") and not tab.evaluate(visible % "values")


class TestConnection:
    def test_it_connects_again_and_says_what_has_happened(self, tab: Tab) -> None:
        with serving() as server:
            address = server.local_addr()
            server.send(pose("r1", x=1.0))
            look(tab, server)
            shows(tab, "x", "1")
        tab.until(f"{STATE} !== 'live'")
        assert "reconnecting in" in tab.until(STATE_TEXT)
        assert "the server is closing" in tab.until("document.getElementById('banner-text').textContent")
        bound = WsServer[Message, Order].bind(address, page=True)
        with serve_background(bound) as server:
            server.send(pose("r1", x=2.0))
            shows(tab, "x", "2")
            tab.until("document.getElementById('banner').hidden")

    def test_another_schema_begins_anew(self, tab: Tab) -> None:
        with serving() as server:
            address = server.local_addr()
            server.send(pose("r1"))
            look(tab, server)
            shows(tab, "x", "1.5")
        with serve_background(WsServer[Wheel, None].bind(address, page=True)) as server:
            tab.until(f"{STATE} === 'live'")
            server.send(Wheel("front", 3.0, Vector(0, 0)))
            shows(tab, "name", '"front"')
            assert value(tab, "Pose") is None

    def test_who_may_not_connect_is_told(self, tab: Tab) -> None:
        with serving(authorize=lambda request: request.query.startswith("token=x&")) as server:
            server.send(pose("r1"))
            look(tab, server)
            assert "not accepted" in tab.until("document.getElementById('banner-text').textContent")
            look(tab, server, "?token=x")
            shows(tab, "x", "1.5")

    def test_a_stream_at_another_path(self, tab: Tab) -> None:
        with serving(path="/live/now") as server:
            server.send(pose("r1"))
            look(tab, server)
            shows(tab, "x", "1.5")

    def test_a_reason_of_the_server_s_is_shown(self, tab: Tab) -> None:
        with serving() as server:
            look(tab, server)
            tab.until(f"{STATE} === 'live'")
            server.run(close_all, server.server)
            text = tab.until("document.getElementById('banner-text').textContent")
            assert text == "closed: <b>go</b> (4007)"
            assert tab.evaluate(STATE) == "broken"


def close_all(server: Any) -> None:
    for peer in server.clients:
        peer.close(4007, "<b>go</b>")


EVIL = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>\u202e"&lt;${window.hit=1}'


class constructor(Codec, policy="latest", key="robot", retain=True):
    robot: str
    toString: str
    hasOwnProperty: u8
    kind: str
    innerHTML: list[str]


HASH = "0123456789abcdef" * 2
HELLO = f"deli 1 hello down={HASH} up=-"


class TestHostile:
    def test_names_and_values_are_text(self, tab: Tab) -> None:
        with serving(constructor, None) as server:
            server.send(constructor(EVIL, EVIL, 7, EVIL, [EVIL, EVIL]))
            look(
                tab,
                server,
                "#watch=constructor%5B" + "%3Cimg%20src=x%20onerror=alert(1)%3E%5D.hasOwnProperty",
            )
            tab.until(f"{VALUE % json.dumps('hasOwnProperty')} === '7'")
            click(tab, "hasOwnProperty")
            tab.until("document.querySelectorAll('.legend button').length === 1")
            assert "onerror" in value(tab, "toString")
            assert "\u202e" not in value(tab, "toString") and "\\u202e" in value(tab, "toString")
            assert tab.evaluate("document.querySelectorAll('img, script').length") == 1  # its own script
            assert tab.evaluate("window.hit") is None
            click(tab, "innerHTML")
            key(tab, "?")
            tab.until("document.getElementById('help-box').open")
            key(tab, "Escape")

    def test_markup_cannot_be_made_at_all(self, tab: Tab) -> None:
        """Even if the page's script tried: Trusted Types are required, and there is no policy."""
        with serving() as server:
            look(tab, server)
            said = tab.evaluate(
                "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'made'; }"
                " catch (error) { return error.name; } })()"
            )
            assert said == "TypeError"
            tab.evaluate("window.faults.length = 0")

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            ([HELLO, f"deli 1 schema down {HASH}\nno schema"], "a schema begins with"),
            ([HELLO, f"deli 1 schema down {HASH}\ndeli 1\nroot <b>\n"], "no schema: "),
            ([HELLO, f"deli 1 schema down {HASH}\ndeli 1\nroot X\nstruct X\n a Y\n"], "Y is not defined"),
            (["deli 1 hello <b>"], "the server's hello is invalid"),
            ([b"\0\0\0\0"], "opened with schema=None"),
            ([HELLO, "deli 1 refused\n<b>x</b>  f32 here"], "<b>x</b>  f32 here"),
        ],
    )
    def test_a_server_that_says_what_cannot_be(self, tab: Tab, sent: list[Any], said: str) -> None:
        with lying(sent) as url:
            tab.open(url)
            assert said in tab.until("document.getElementById('banner-text')?.textContent")
            assert tab.evaluate(STATE) == "broken"
            assert tab.evaluate("document.querySelectorAll('b').length") == 0

    def test_values_that_are_none_do_not_stop_the_others(self, tab: Tab) -> None:
        text = "deli 1\nroot M\nsealed M\n 0 A @latest(k)\n  k u8\n  s str\n 1 B\n  x bool\n"
        first = b"\0\0\0\0\x07" + struct.pack("<I", 2**32 - 1) + b"abc"  # its key can be read, the rest not
        rest = [b"\xff\xff\xff\xff", b"", b"\1\0\0\0\x05", b"\0\0\0\0\x09" + struct.pack("<I", 1) + b"z"]
        with lying([HELLO, f"deli 1 schema down {HASH}\n{text}", first, *rest]) as url:
            tab.open(url)
            shows(tab, "s", '"z"')
            assert value(tab, "7") == "decode error: unexpected end of buffer (byte 5)"
            assert value(tab, "B") == "decode error: invalid bool value: 5 (byte 4)"

    def test_another_site_cannot_frame_it(self, tab: Tab) -> None:
        with serving() as server:
            frame = f'<iframe src="http://{server.local_addr()}/" onload="window.loaded = 1"></iframe>'
            with serving(http={"/": frame.encode()}, page=False) as other:
                tab.open(f"http://{other.local_addr()}/")
                tab.until("window.loaded")
                assert server.client_count() == 0


@contextlib.contextmanager
def lying(sent: list[Any]) -> Iterator[str]:
    """The URL of the page of a server that sends just this."""
    page = made_page(path="", sends=False, title="")
    head = {"Content-Type": "text/html", "Content-Security-Policy": f"{page.policy}; connect-src 'self'"}

    def answer(connection: Any, request: Any) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        return Response(200, "OK", Headers({**head, "Connection": "close"}), page.body)

    def talk(connection: ServerConnection) -> None:
        for message in sent:
            connection.send(message)
        for _ in connection:
            pass

    with serve(talk, "127.0.0.1", 0, process_request=answer, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/"
        finally:
            server.shutdown()
            thread.join()


class TestSending:
    def test_a_form_sends_values(self, tab: Tab) -> None:
        with serving(page="send") as server:
            look(tab, server)
            tab.until("!document.getElementById('send').hidden")
            key(tab, "s")
            tab.until("document.getElementById('send-box').open")
            tab.evaluate(
                """(() => {
                const labels = [...document.querySelectorAll("#fields label")];
                const input = (name) => labels.find((each) => each.firstChild.textContent === name).lastChild;
                input("speed").value = "2.5";
                input("side").value = "RIGHT";
                input("name").value = "über";
                input("data").value = "00 ff";
                input("x").value = "-1";
                input("fast").checked = true;
                const adds = [...document.querySelectorAll("#fields button")];
                const add = adds.find((each) => each.textContent === "Add");
                add.click(); add.click();
                const items = document.querySelectorAll("#fields .items input");
                items.forEach((each, i) => (each.value = String(i + 7)));
                document.querySelector("#send-form .first").click();
                })()"""
            )
            assert server.recv(timeout=10) == Go(
                2.5, Side.RIGHT, "über", [7, 8], None, b"\x00\xff", Vector(-1, 0), True
            )
            assert tab.until("document.getElementById('sent').textContent").startswith("Sent, ")
            tab.evaluate(
                """(() => {
                const select = document.querySelector("#fields select");
                select.value = "Stop";
                select.dispatchEvent(new Event("change"));
                document.querySelector("#send-form .first").click();
                })()"""
            )
            assert server.recv(timeout=10) == Stop()

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("speed", "fast", "speed: f32 is a number"),
            ("speed", "1e39", "encode error: speed: 1e+39 does not fit f32"),
            ("data", "0", "data: pairs of hexadecimal digits are needed"),
        ],
    )
    def test_what_cannot_be_sent_is_said(self, tab: Tab, name: str, text: str, said: str) -> None:
        with serving(page="send") as server:
            look(tab, server)
            tab.until("!document.getElementById('send').hidden")
            tab.evaluate(
                f"""(() => {{
                document.getElementById("send").click();
                const labels = [...document.querySelectorAll("#fields label")];
                labels.find((each) => each.firstChild.textContent === {json.dumps(name)}).lastChild.value =
                  {json.dumps(text)};
                document.querySelector("#send-form .first").click();
                }})()"""
            )
            assert tab.until("document.getElementById('sent').textContent") == said

    def test_without_send_there_is_no_form(self, tab: Tab) -> None:
        with serving() as server:
            server.send(pose("r1"))
            look(tab, server)
            shows(tab, "x", "1.5")
            assert tab.evaluate("document.getElementById('send').hidden")

    def test_a_server_that_takes_nothing_has_none_either(self, tab: Tab) -> None:
        with serving(Message, None, page="send") as server:
            server.send(pose("r1"))
            look(tab, server)
            shows(tab, "x", "1.5")
            assert tab.evaluate("document.getElementById('send').hidden")


def test_a_thousand_keys_cost_only_the_rows_in_sight(tab: Tab) -> None:
    with serving() as server:
        for n in range(1000):
            server.send(pose(f"robot-{n:04}", x=float(n)))
        look(tab, server)
        tab.until("document.getElementById('shown').textContent === '1,000 values'")
        assert tab.evaluate("document.querySelectorAll('#list .row').length") < 80
        tab.evaluate("document.getElementById('list').scrollTop = 1e9")
        tab.until(f"({ROWS}).some((row) => row.name === 'robot-0999')")
        server.send(pose("robot-0999", x=-0.5))
        tab.until(f"({VALUE % json.dumps('robot-0999')}).includes('x -0.5')")


def test_the_page_s_own_path_is_data() -> None:
    page = made_page(path='"><script>', sends=False, title="<b>")
    assert b'data-path="&quot;&gt;&lt;script&gt;"' in page.body
    assert b'data-title="&lt;b&gt;"' in page.body
