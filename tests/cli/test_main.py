"""The command line as a whole: commands, exit statuses, interrupts, pipes, colours, options for servers."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deli_com.cli import command, urls
from deli_com.cli.command import CommandError
from deli_com.cli.main import COMMANDS, main, parser


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deli_com", *arguments], capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert shown.startswith(f"usage: deli-com {name} ")
    assert f"\nexamples:\n  deli-com {name}" in shown


def test_the_commands_are_the_modules_that_have_a_fill() -> None:
    found = Path(command.__file__).parent.glob("*.py")
    filled = {path.stem for path in found if "\ndef fill(" in path.read_text(encoding="utf-8")}
    assert filled == set(COMMANDS)


def test_a_commands_module_is_imported_when_it_is_used() -> None:
    script = (
        "import sys\n"
        "from deli_com.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "ours = ('deli_com.cli.', 'deli_com.gen')\n"
        "print([name for name in sys.modules if name.startswith(ours)], file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stderr == "['deli_com.cli.command', 'deli_com.cli.main']\n"


@pytest.fixture
def command_of() -> Any:
    """Makes `deli-com demo` do something else."""
    module = importlib.import_module("deli_com.cli.demo")

    def put(do: Any) -> ModuleType:
        patch.setattr(module, "run", lambda _: do())
        return module

    with pytest.MonkeyPatch.context() as patch:
        yield put


def test_a_failure_is_one_line_and_2(command_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command_of(lambda: command.fail("there is nobody"))
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == "deli-com demo: there is nobody\n"


def test_an_interrupt_is_quiet_and_130(command_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    command_of(interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of POSIX")
def test_an_interrupted_process_is_quiet_and_130() -> None:
    script = (
        "import sys, time\nfrom deli_com.cli import demo, main\n"
        "demo.run = lambda _: (print('now', flush=True), time.sleep(60))\nsys.exit(main.main(['demo']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as ran:
        assert ran.stdout is not None and ran.stderr is not None
        assert ran.stdout.readline() == b"now\n"
        ran.send_signal(signal.SIGINT)
        assert ran.stderr.read() == b""
        assert ran.wait(30) == 130


def test_a_closed_pipe_is_quiet_and_141() -> None:
    """Whether it is noticed while it is written, or as the last of it is."""
    for count in (1, 100_000):
        script = (
            "import sys\nfrom deli_com.cli import demo, main\n"
            f"demo.run = lambda _: print('x\\n' * {count}) or 0\nsys.exit(main.main(['demo']))\n"
        )
        reading, writing = os.pipe()
        os.close(reading)
        try:
            ran = subprocess.run(
                [sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE, timeout=60
            )
        finally:
            os.close(writing)
        assert (ran.returncode, ran.stderr) == (141, b"")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert command.painted("x", "red", _Terminal()) == "\x1b[31mx\x1b[0m"
    assert command.painted("x", "red", io.StringIO()) == "x"
    assert command.painted("", "red", _Terminal()) == ""
    monkeypatch.setenv("TERM", "dumb")
    assert command.painted("x", "red", _Terminal()) == "x"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert command.painted("x", "red", _Terminal()) == "x"


def test_the_script_and_the_module_are_one_program() -> None:
    ran = run("gen", "--nothing")
    assert ran.returncode == 2 and ran.stderr.startswith("usage: deli-com gen ")
    script = Path(sys.executable).with_name("deli-com")
    if script.exists():
        other = subprocess.run([script, "gen", "--nothing"], capture_output=True, text=True, timeout=60)
        assert (other.returncode, other.stderr) == (ran.returncode, ran.stderr)


def test_the_current_directory_is_looked_in(tmp_path: Path) -> None:
    (tmp_path / "wire_of_here.py").write_text("from deli_com import Codec, u8\nclass P(Codec):\n    x: u8\n")
    script = "import sys\nfrom deli_com.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "deli-com").write_text(script)  # as a console script: its own folder is on sys.path
    ran = subprocess.run(
        [sys.executable, tmp_path / "bin" / "deli-com", "gen", "ts", "wire_of_here:P"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "export interface P {" in ran.stdout


# --- connecting to servers ---


def options_of(*arguments: str) -> argparse.Namespace:
    made = argparse.ArgumentParser()
    urls.add_url_options(made)
    return made.parse_args(arguments)


def test_headers_and_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELI_TOKEN", raising=False)
    assert urls.server_of("ws://h:1/p", options_of()).options == {}
    given = options_of("--header", "X-A: b:c", "--header", "X-D:")
    assert urls.server_of("ws://h:1", given).options == {"headers": [("X-A", "b:c"), ("X-D", "")]}
    monkeypatch.setenv("DELI_TOKEN", "t0k")
    assert urls.server_of("ws://h:1", options_of()).options == {"headers": [("Authorization", "Bearer t0k")]}
    own = options_of("--header", "authorization: Basic x")
    assert urls.server_of("ws://h:1", own).options == {"headers": [("authorization", "Basic x")]}


def test_tls(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    ca, cert, key = tmp_path / "ca", tmp_path / "cert", tmp_path / "key"
    authority.cert_pem.write_to_path(ca)
    leaf.cert_chain_pems[0].write_to_path(cert)
    leaf.private_key_pem.write_to_path(key)
    given = options_of("--ca", str(ca), "--cert", str(cert), "--key", str(key))
    for url in ("wss://localhost:1", "tcps://localhost:1"):
        place = urls.server_of(url, given)
        assert place.options["ssl"].get_ca_certs()
        assert place.is_tcp == (url[0] == "t")
    with pytest.raises(CommandError, match="nowhere"):
        urls.server_of("wss://localhost:1", options_of("--ca", str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("url", "arguments", "words"),
    [
        ("http://h", [], "is no URL of a server"),
        ("h:1", [], "is no URL of a server"),
        ("ws://h", ["--ca", "f"], "wss:// instead of ws://"),
        ("tcp://h:1", ["--cert", "f"], "tcps:// instead of tcp://"),
        ("wss://h", ["--key", "f"], "give --cert too"),
        ("ws://h", ["--header", "x"], "K:V"),
        ("ws://h", ["--header", ":x"], "K:V"),
        ("tcp://h:1", ["--header", "a:b"], "TCP has no headers"),
        ("tcp://h:1/path", [], "TCP has no paths"),
    ],
)
def test_what_does_not_go_together_is_said(url: str, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        urls.server_of(url, options_of(*arguments))


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
