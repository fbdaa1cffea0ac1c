"""The generated TypeScript client with a server: in Node, and in a page of Chromium.

It tests values, an answer, a restarted server, a server with a readable other schema, and one whose values
cannot be read.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import helpers
import pytest
from browser import Tab, browser
from folder_server import files
from toolchains import npm, tool
from websockets.asyncio.server import serve

from deli_com import Codec, Schema, WsServer, codec, f32, u8, u32, u64
from deli_com.gen import typescript

SUPPORT = Path(__file__).resolve().parents[1] / "support"
LIMIT_S = 30 * helpers.SLOW


class Reading(Codec):
    id: u32
    name: str
    big: u64


class Order(Codec, sealed=True):
    pass


class Speed(Order):
    metres: u32


class Stop(Order):
    pass


class Later:
    """The same names with other shapes: what a newer server has."""

    class Reading(Codec):
        name: str
        id: u8
        celsius: f32
        big: u64

    class Order(Codec, sealed=True):
        pass

    class Stop(Order):
        pass

    class Speed(Order):
        metres: u64

    class Other:
        class Reading(Codec):
            id: str
            name: str


def value(id: int, name: str, big: int) -> str:
    return f'value {{"id":{id},"name":"{name}","big":"{big}n"}}'


class Numbers(Codec, sealed=True):
    pass


class Left(Numbers):
    n: u32


class Right(Numbers):
    n: u32


# --- where the client runs ---


class Node:
    """A process that prints what the client sees."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen: list[str] = []

    async def until(self, line: str) -> None:
        """Wait for a line behind those that were waited for."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while True:
                found = (await self.process.stdout.readline()).decode().rstrip("\n").replace("\\n", "\n")
                assert found, f"it ended without {line!r}: {self.seen}"
                self.seen.append(found)
                if found == line:
                    return


class Page:
    """A tab whose page keeps what the client sees, and shows it."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.seen = 0

    async def until(self, line: str) -> None:
        expression = f"window.lines.indexOf({line!r}, {self.seen}) + 1"
        self.seen = await asyncio.to_thread(self.tab.until, expression)


@asynccontextmanager
async def in_node(folder: Path, url: str) -> AsyncIterator[Node]:
    ws = npm("ws") / "ws" / "wrapper.mjs"
    (folder / "run.mjs").write_text(
        f'import {{ WebSocket }} from "{ws}";\nimport * as wire from "./wire.mjs";\n'
        'import { start } from "./live_client.mjs";\n'
        'const print = (line) => console.log(line.replaceAll("\\n", "\\\\n"));\n'
        f'start(wire, "{url}", {{ WebSocket }}, {{ push: print }});\n'
    )
    process = await asyncio.create_subprocess_exec(
        tool("node"), "run.mjs", cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Node(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def in_page(folder: Path, url: str) -> AsyncIterator[Page]:
    (folder / "page.html").write_text(
        '<!doctype html><meta charset="utf-8"><pre id="seen"></pre><script type="module">\n'
        'import * as wire from "./wire.mjs";\nimport { start } from "./live_client.mjs";\n'
        "window.lines = [];\nconst seen = document.getElementById('seen');\n"
        "const push = (line) => { window.lines.push(line); seen.textContent += line + '\\n'; };\n"
        f'start(wire, "{url}", {{}}, {{ push }});\n</script>\n'
    )
    with browser(folder / "profile") as tab, files(folder) as site:
        await asyncio.to_thread(tab.open, f"{site}/page.html")
        await asyncio.to_thread(tab.until, "window.lines")
        yield Page(tab)


def write(folder: Path) -> None:
    text = typescript(codec(Reading).schema, codec(Order).schema, js=True, client=True)
    (folder / "wire.mjs").write_text(text, encoding="utf-8")
    (folder / "live_client.mjs").write_text((SUPPORT / "live_client.mjs").read_text())


@pytest.mark.parametrize("where", [in_node, in_page])
def test_a_client_lives_through_its_servers(tmp_path: Path, where: Any) -> None:
    write(tmp_path)

    async def main() -> None:
        server: Any = await WsServer[Reading, Order].bind("127.0.0.1:0")
        port = server.local_addr()[1]
        address = f"127.0.0.1:{port}"
        async with where(tmp_path, f"ws://{address}/") as peer:
            await peer.until("state open")
            await peer.until("live same")
            await server.send(Reading(1, "one", 2**60))
            await peer.until(value(1, "one", 2**60))
            await server.send(Reading(7, "answer me", 0))
            await peer.until("sent true")
            assert await server.recv() == Speed(7)
            await server.close()
            await peer.until("state waiting")

            async with await WsServer[Reading, Order].bind(address) as server:
                await peer.until("state open")
                await peer.until("live same")
                await server.send(Reading(2, "again", 2**64 - 1))
                await peer.until(value(2, "again", 2**64 - 1))
            await peer.until("state waiting")

            async with await WsServer[Later.Reading, Later.Order].bind(address) as newer:
                await peer.until("live resolved")
                await newer.send(Later.Reading("answer me", 3, 1.5, 4))
                await peer.until(value(3, "answer me", 4))
                await peer.until("sent true")
                assert await newer.recv() == Later.Speed(3)
            await peer.until("state waiting")

            async with await WsServer[Later.Other.Reading, Order].bind(address):
                await peer.until(
                    "error SchemaError: another Reading is sent here:\n"
                    "  id   u32 here, str there\n- big  u64, only here and without a default"
                )
                await peer.until("state closed")
                await peer.until("thrown SchemaError")
            if isinstance(peer, Page):
                shown = await asyncio.to_thread(peer.tab.evaluate, "document.body.innerText")
                assert "id   u32 here, str there" in shown

    asyncio.run(main())


def run_program(folder: Path, url: str, body: str) -> list[str]:
    """Run statements in Node with a generated module as `wire`; the lines that they print."""
    ws = npm("ws") / "ws" / "wrapper.mjs"
    (folder / "run.mjs").write_text(
        f'import {{ WebSocket }} from "{ws}";\nimport * as wire from "./wire.mjs";\n'
        f'const url = "{url}";\nconst print = (...words) => console.log(words.join(" "));\n{body}\n'
    )
    done = subprocess.run(
        [tool("node"), "run.mjs"], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr[:500]
    return done.stdout.splitlines()


def test_a_server_that_cannot_read_what_the_client_sends(tmp_path: Path) -> None:
    write(tmp_path)

    class Order(Codec, sealed=True):
        pass

    class Speed(Order):
        metres: str

    async def main() -> None:
        async with await WsServer[Reading, Order].bind("127.0.0.1:0") as server:
            url = f"ws://127.0.0.1:{server.local_addr()[1]}/"
            lines = await asyncio.to_thread(
                run_program,
                tmp_path,
                url,
                "const client = new wire.Client(url, { WebSocket, onError: (e) => print(e.message) });\n"
                "await client.ready; try { for await (const v of client); } catch (e) { print(e.name); }",
            )
            assert lines[0] == "the server cannot read the values of this client:"
            assert "Speed.metres  str here, u32 there" in lines[1] and lines[-1] == "SchemaError"

    asyncio.run(main())


class Script:
    """A foreign server that says one thing after the other to each of its clients."""

    def __init__(self, *says: str | bytes) -> None:
        self.says = says
        self.paths: list[str] = []
        self.heard: list[str | bytes] = []
        self.codes: list[int] = []

    async def __call__(self, connection: Any) -> None:
        self.paths.append(connection.request.path)
        for each in self.says:
            await connection.send(each)
        async for message in connection:
            self.heard.append(message)
        self.codes.append(connection.close_code)


def with_script(folder: Path, script: Script, body: str) -> list[str]:
    """The lines of a program whose `url` is that of a foreign server."""

    async def main() -> list[str]:
        async with serve(script, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            return await asyncio.to_thread(run_program, folder, f"ws://127.0.0.1:{port}/x?a=1", body)

    return asyncio.run(main())


def test_a_server_that_knows_nothing_of_schemas(tmp_path: Path) -> None:
    write(tmp_path)
    script = Script(Reading(5, "old", 1).to_bytes())
    lines = with_script(
        tmp_path,
        script,
        "const client = new wire.Client(url, { WebSocket });\n"
        "print(client.send({ kind: 'Stop' }));\n"
        "for await (const v of client) { print(client.how, v.name); break; }\n"
        "print(client.send({ kind: 'Stop' })); client.close();\n"
        "const strict = new wire.Client(url, { WebSocket, schema: 'require' });\n"
        "await strict.ready.catch((e) => print(e.name, strict.state));\n"
        "const silent = new wire.Client(url, { WebSocket, schema: null });\n"
        "await silent.ready; print(silent.how, silent.url === url); silent.close();",
    )
    assert lines == ["false", "unknown old", "true", "SchemaError closed", "unknown true"]
    down, up = codec(Reading).schema.hash, codec(Order).schema.hash
    assert script.paths == [f"/x?a=1&deli=1.{down}.{up}"] * 2 + ["/x?a=1"]
    assert Stop().to_bytes() in script.heard


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (["deli 1 hello down=x up=-"], "a malformed or repeated hello"),
        ([f"deli 1 hello down={'0' * 32} up=-", b"\0"], "a value before its schema"),
        (
            [f"deli 1 hello down={'0' * 32} up=-", f"deli 1 schema down {'0' * 32}\ndeli 1\nroot u8\n"],
            "a schema that was not announced",
        ),
        ([f"deli 1 hello down={codec(Reading).schema.hash} up=-", b"\0"], "decode error: unexpected end"),
    ],
)
def test_what_cannot_be_is_an_error_and_another_attempt(
    tmp_path: Path, says: list[str | bytes], words: str
) -> None:
    write(tmp_path)
    script = Script(*says)
    lines = with_script(
        tmp_path,
        script,
        "let count = 0;\nconst client = new wire.Client(url, { WebSocket, backoff: [1, 5],\n"
        "  onError: (e) => { print(e.message); if (++count === 2) client.close(); } });\n",
    )
    assert len(lines) == 2 and all(words in line for line in lines)


def test_texts_of_others_and_gaps(tmp_path: Path) -> None:
    write(tmp_path)
    script = Script(
        "hello?",
        "deli 1 news from later",
        f"deli 1 hello down={codec(Reading).schema.hash} up=-",
        "deli 1 gap Reading skipped=3 superseded=4",
        "deli 1 gap * reason=upstream seconds=1.500",
        Reading(1, "x", 2).to_bytes(),
    )
    lines = with_script(
        tmp_path,
        script,
        "const client = new wire.Client(url, { WebSocket, onGap: (g) => print(JSON.stringify(g)),\n"
        "  onValue: (v) => { print(v.name, client.send({ kind: 'Stop' })); client.close(); } });",
    )
    assert lines == [
        '{"name":"Reading","skipped":3,"superseded":4,"reason":"","seconds":null}',
        '{"name":"*","skipped":0,"superseded":0,"reason":"upstream","seconds":1.5}',
        "x false",  # this server takes no values
    ]


def test_the_newest_of_each_variant(tmp_path: Path) -> None:
    schema = codec(Numbers).schema
    (tmp_path / "wire.mjs").write_text(typescript(schema, js=True, client=True), encoding="utf-8")
    values = [Left(1), Right(2), Left(3), Left(4)]
    script = Script(f"deli 1 hello down={schema.hash} up=-", *(v.to_bytes() for v in values), "deli 1 live")
    lines = with_script(
        tmp_path,
        script,
        "const client = new wire.Client(url, { WebSocket, newestOnly: true, onLive: async () => {\n"
        "  for await (const v of client) { print(v.kind, v.n); if (v.n === 4) break; }\n"
        "  print(client.received, client.superseded); client.close();\n"
        "  const other = new wire.Client(url, { WebSocket, newestOnly: true, onValue: (v) => {\n"
        "    print(v.kind, v.n); if (v.n === 4) other.close(); } });\n"
        "} });",
    )
    assert lines[:3] == ["Right 2", "Left 4", "4 2"] and lines[-1] == "Left 4"


def test_hashes_are_pythons(tmp_path: Path, schemas: list[Schema]) -> None:
    write(tmp_path)
    texts = [schema.text for schema in schemas]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    lines = run_program(
        tmp_path,
        "",
        'import { readFileSync } from "node:fs";\n'
        'for (const text of JSON.parse(readFileSync("texts.json", "utf8"))) print(wire.schemaHash(text));',
    )
    assert lines == [schema.hash for schema in schemas]


PROGRAM = """
import { Client, type Numbers, SCHEMA_HASH } from "./wire";

function shown(value: Numbers): string {
  switch (value.kind) {
    case "Left":
      return `left ${value.n}`;
    case "Right":
      return `right ${value.n}`;
  }
  const nothing: never = value;
  return nothing;
}

export async function main(url: string): Promise<string[]> {
  const lines = [SCHEMA_HASH];
  const client = new Client(url, { newestOnly: true, onValue: (value) => lines.push(shown(value)) });
  await client.ready;
  client.send({ kind: "Left", n: 1 });
  for await (const value of client) lines.push(shown(value));
  return lines;
}
"""
BROWSER = ["--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler"]
STRICT = ["--strict", "--noUncheckedIndexedAccess", "--noUnusedLocals", "--noUnusedParameters", "--noEmit"]


def test_a_program_with_the_client_compiles_and_is_bundled(tmp_path: Path) -> None:
    """Types may be called as what the client is made of; a variant that is forgotten is an error."""
    modules = npm("typescript", "esbuild", "ws")
    schema = codec(Numbers).schema
    (tmp_path / "wire.ts").write_text(typescript(schema, schema, client=True), encoding="utf-8")
    (tmp_path / "main.ts").write_text(PROGRAM)
    (tmp_path / "bad.ts").write_text(PROGRAM.replace('    case "Right":\n', '    // case "Right":\n'))
    names = COLLIDING.split()
    text = "deli 1\nroot Top\nstruct Top\n" + "".join(f" f{name} {name}\n" for name in names)
    text += "".join(f"struct {name}\n class u8\n kind str\n" for name in names)
    (tmp_path / "names.ts").write_text(typescript(Schema.parse(text), client=True), encoding="utf-8")
    tsc = [tool("node"), str(modules / "typescript" / "bin" / "tsc"), *STRICT, *BROWSER]
    done = subprocess.run(
        [*tsc, "main.ts", "names.ts", "bad.ts"], cwd=tmp_path, capture_output=True, text=True
    )
    errors = done.stdout.splitlines()
    assert all(line.startswith("bad.ts") for line in errors), errors[:3]
    assert "is not assignable to type 'never'" in done.stdout
    subprocess.run(
        [str(modules / ".bin" / "esbuild"), "main.ts", "--bundle", "--format=esm", "--minify",
         "--outfile=main.mjs", "--log-level=error"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    subprocess.run([tool("node"), "--check", "main.mjs"], cwd=tmp_path, check=True)


COLLIDING = "Client Generic Waiting Gap Socket SchemaError Resolver Read Items Cell Map Promise ClientState"
