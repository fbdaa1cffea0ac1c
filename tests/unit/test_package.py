"""The installed package is complete, and facts that are written twice agree."""

from __future__ import annotations

import asyncio
import importlib.machinery
import importlib.util
import os
import pickle
import pkgutil
import selectors
import shutil
import socket
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import deli_com
from deli_com import _abi, errors
from deli_com.cli.main import main
from deli_com.net.accept_loop import AcceptLoop


class Pickled(deli_com.Codec):
    x: deli_com.u8


ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def modules() -> list[str]:
    """Every module of the package as it is installed."""
    return sorted(info.name for info in pkgutil.walk_packages(deli_com.__path__, "deli_com."))


class TestMetadata:
    def test_the_version_is_written_once(self) -> None:
        assert deli_com.__version__ == PYPROJECT["project"]["version"]

    def test_builds_with_and_without_isolation_use_the_same(self) -> None:
        assert PYPROJECT["dependency-groups"]["build"] == PYPROJECT["build-system"]["requires"]

    @pytest.mark.parametrize("name", ["picows", "aiofastnet"])
    def test_what_is_compiled_against_is_pinned_alike_for_build_and_run(self, name: str) -> None:
        places = (PYPROJECT["build-system"]["requires"], PYPROJECT["project"]["dependencies"])
        pins = [[entry for entry in entries if entry.startswith(name)] for entries in places]
        assert pins[0] == pins[1]
        assert pins[0][0].startswith(f"{name}==")

    def test_the_extra_covers_what_the_demo_is_tested_with(self) -> None:
        names = [entry.split(">")[0] for entry in PYPROJECT["project"]["optional-dependencies"]["demo"]]
        assert names == [entry.split("=")[0] for entry in PYPROJECT["dependency-groups"]["demo"]]

    def test_every_place_names_the_same_pythons(self) -> None:
        lead = "Programming Language :: Python :: 3."
        minors = [name.removeprefix(lead) for name in PYPROJECT["project"]["classifiers"] if lead in name]
        assert minors == ["11", "12", "13", "14"]
        assert PYPROJECT["tool"]["cibuildwheel"]["build"] == " ".join(f"cp3{minor}-*" for minor in minors)
        for name, words in {
            ".github/workflows/ci.yml": "python: [" + ", ".join(f'"3.{minor}"' for minor in minors) + "]",
            "README.md": f"CPython 3.{minors[0]} to 3.{minors[-1]} on Linux is supported",
            "CONTRIBUTING.md": f"a CPython from 3.{minors[0]} to 3.{minors[-1]} with its headers",
            "docs/guide/deployment.md": f"CPython 3.{minors[0]} to 3.{minors[-1]} is supported",
            "tools/find-python": f"versions/3.1[{minors[0][1]}-{minors[-1][1]}].*/bin/python",
        }.items():
            if (path := ROOT / name).exists():  # the sdist has no workflows
                assert words in path.read_text(encoding="utf-8"), name
        for minor in minors:
            assert f"python3.{minor}" in (ROOT / "tools/find-python").read_text(encoding="utf-8")


class TestFreeThreading:
    """Not declared until it is true and tested: the import is refused there."""

    def test_no_source_declares_it(self) -> None:
        sources = [ROOT / "setup.py", *sorted((ROOT / "src").rglob("*.p[xy][xd]"))]
        assert len(sources) > 40
        for path in sources:
            text = path.read_text(encoding="utf-8")
            assert "freethreading_compatible" not in text, path
            assert "Py_MOD_GIL_NOT_USED" not in text, path

    def test_neither_wheels_nor_classifiers_do(self) -> None:
        assert not [name for name in PYPROJECT["project"]["classifiers"] if "Free Threading" in name]
        assert "enable" not in PYPROJECT["tool"]["cibuildwheel"]

    def test_the_readme_says_so(self) -> None:
        words = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
        assert "Free-threaded Python is not supported: the import fails there with an explanation." in words

    def test_the_import_is_refused(self) -> None:
        program = (
            "import sys; sys.version = '3.14.3 free-threading build (main) [GCC]'\n"
            "try: import deli_com\n"
            "except ImportError as error: print(error); print('deli_com._abi' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        words, loaded, _ = done.stdout.split("\n")
        assert words == (
            "deli_com does not support free-threaded Python yet: its compiled modules need the GIL. "
            f"Use the ordinary build of CPython {sys.version_info.major}.{sys.version_info.minor}."
        )
        assert loaded == "False"  # no compiled module has run

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="free-threaded builds begin with 3.13")
    def test_this_interpreter_says_what_it_is(self) -> None:
        """The words that the check reads are those of the build, as the configuration has it."""
        assert ("free-threading build" in sys.version) == bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class TestSystemsWithoutSendmsg:
    @pytest.mark.skipif(
        shutil.which("x86_64-w64-mingw32-gcc") is None,
        reason="no gcc for Windows (Debian: gcc-mingw-w64-x86-64)",
    )
    def test_the_system_calls_compile_for_windows(self, tmp_path: Path) -> None:
        (tmp_path / "check.c").write_text(
            '#include "deli_com/ground/sockets.h"\n'
            "int main(void) {\n"
            "    char page[1];\n"
            "    struct iovec piece = {page, sizeof page};\n"
            "    deli_com_keep_unsent_low(1, 2);\n"
            "    deli_com_free_pages(page, 0);\n"
            "    return DELI_COM_HAVE_SENDMSG + deli_com_tcp_info(1).is_known + (deli_com_clock_ns() == 0)\n"
            "        + (deli_com_sendv(1, &piece, 1) != DELI_COM_BROKEN);\n"
            "}\n",
            encoding="utf-8",
        )
        command = [
            "x86_64-w64-mingw32-gcc",
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "check.c",
            "-o",
            "check",
        ]
        ran = subprocess.run(
            [*command, "-I", str(ROOT / "src" / "deli_com")], cwd=tmp_path, capture_output=True, text=True
        )
        assert (ran.returncode, ran.stderr) == (0, "")

    def test_a_loop_that_cannot_watch_sockets_is_named(self) -> None:
        class ProactorLike(asyncio.SelectorEventLoop):
            add_reader = asyncio.AbstractEventLoop.add_reader

        loop = ProactorLike(selectors.SelectSelector())
        try:
            with socket.create_server(("127.0.0.1", 0)) as sock:
                with pytest.raises(NotImplementedError, match=r"ProactorLike.*SelectorEventLoop"):
                    AcceptLoop(loop, sock, lambda accepted: accepted.close())
        finally:
            loop.close()


class TestModules:
    @pytest.mark.parametrize("name", modules())
    def test_each_can_be_imported_first(self, name: str) -> None:
        """No module relies on another having been imported before it."""
        script = f"import importlib; importlib.import_module({name!r})"
        ran = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")

    def test_types_are_declared(self) -> None:
        assert (Path(deli_com.__file__).parent / "py.typed").exists()

    def test_the_package_exports_every_error(self) -> None:
        for name in errors.__all__:
            assert getattr(deli_com, name) is getattr(errors, name)

    def test_importing_the_package_does_not_import_the_demo(self) -> None:
        script = (
            "import deli_com, sys\n"
            "print([name for name in ('psutil', 'rich', 'numpy', 'deli_com.demo') if name in sys.modules])"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert ran.stdout == "[]\n"


class TestCommandLine:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["--version"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"deli-com {deli_com.__version__} (picows {_abi.PICOWS}, ")

    @pytest.mark.parametrize(
        "argv",
        [
            [],
            ["nothing"],
            ["demo", "--seconds", "-1"],
            ["demo", "--seconds", "inf"],
            ["demo", "--seconds", "nan"],
            ["demo", "--clients", "0"],
            ["demo", "--clients", "1.5"],
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, argv: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2
        assert "usage: deli-com" in capsys.readouterr().err


class TestStaleBuilds:
    """The check in the root conftest.py, which keeps pytest from judging an old build."""

    @pytest.fixture
    def guard(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("root_conftest", ROOT / "conftest.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        """Two built modules, of which `_a` cimports `_b`, and `_b` cimports `_c`, which has no module."""
        texts = {
            "_a.pyx": "from deli_com._b cimport thing",
            "_b.pyx": "",
            "_b.pxd": "from deli_com._c cimport other",
            "_c.pxd": "",
            "_d.pxd": "",
        }
        for name, text in texts.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
            os.utime(tmp_path / name, (1000, 1000))
        for stem in ("_a", "_b"):
            built = tmp_path / (stem + importlib.machinery.EXTENSION_SUFFIXES[0])
            built.touch()
            os.utime(built, (2000, 2000))
        return tmp_path

    def test_a_fresh_build_passes(self, guard: ModuleType, package: Path) -> None:
        assert guard.stale(package) == []

    @pytest.mark.parametrize(
        ("changed", "older"),
        [
            ("_a.pyx", ["_a"]),
            ("_b.pyx", ["_b"]),
            ("_b.pxd", ["_a", "_b"]),
            ("_c.pxd", ["_a", "_b"]),
            ("_d.pxd", []),
        ],
    )
    def test_modules_older_than_what_they_are_built_from_are_named(
        self, guard: ModuleType, package: Path, changed: str, older: list[str]
    ) -> None:
        os.utime(package / changed, (3000, 3000))
        suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
        assert guard.stale(package) == [f"{stem}{suffix} is older than {changed}" for stem in older]

    def test_a_module_that_is_not_built_is_named(self, guard: ModuleType, package: Path) -> None:
        (package / ("_a" + importlib.machinery.EXTENSION_SUFFIXES[0])).unlink()
        assert guard.stale(package) == ["_a.pyx is not built for this interpreter"]

    def test_a_module_that_lost_its_source_is_named(self, guard: ModuleType, package: Path) -> None:
        (package / "_a.pyx").unlink()
        assert guard.stale(package) == [f"_a{importlib.machinery.EXTENSION_SUFFIXES[0]} has lost its source"]


@pytest.mark.skipif(os.name != "posix", reason="tools/find-python is a shell script")
class TestFindPython:
    def find(self, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ROOT / "tools" / "find-python"), *arguments],
            env={**os.environ, "PATH": f"{path}:/usr/bin:/bin", "CC": "true"},
            capture_output=True,
            text=True,
        )

    def fake(self, path: Path, name: str, body: str) -> None:
        (path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (path / name).chmod(0o755)

    def test_a_shim_that_fails_is_passed_over(self, tmp_path: Path) -> None:
        self.fake(tmp_path, "python3.13", "echo 'not installed' >&2; exit 127")
        self.fake(tmp_path, "python3.12", f'exec "{sys.executable}" "$@"')
        ran = self.find(tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert Path(ran.stdout.strip()).resolve() == Path(sys._base_executable).resolve()  # type: ignore[attr-defined]

    def test_where_none_will_do_each_is_named_with_its_reason(self, tmp_path: Path) -> None:
        for name in ("python3.13", "python3.12", "python3.11", "python3.14", "python3"):
            self.fake(tmp_path, name, f"echo '{name} is broken' >&2; exit 1")
        ran = self.find(tmp_path)
        assert ran.returncode == 1
        assert ran.stdout == ""
        for name in ("python3.13", "python3.12", "python3.11", "python3.14", "python3"):
            assert f"  {name}: {name} is broken" in ran.stderr
        assert "make PYTHON=" in ran.stderr

    def test_a_name_that_is_not_there_is_said_to_be_missing(self, tmp_path: Path) -> None:
        ran = self.find(tmp_path, "python3.99")
        assert ran.returncode == 1
        assert "  python3.99: not found" in ran.stderr


class TestOldPickles:
    """What 0.1.0 pickled names modules that have moved since."""

    @pytest.mark.parametrize(
        ("data", "value"),
        [
            (
                b"\x80\x02cdeli_com._record\nrestore\nq\x00c"
                + __name__.encode()
                + b"\nPickled\nq\x01\x85q\x02R"
                b"q\x03K\x07\x85q\x04\x85q\x05b.",
                Pickled(7),
            ),
            (
                b"\x80\x02cdeli_com.address\nAddress\nq\x00X\t\x00\x00\x00127.0.0.1q\x01KP\x86q\x02\x81q\x03.",
                deli_com.Address("127.0.0.1", 80),
            ),
        ],
        ids=["struct", "address"],
    )
    def test_load(self, data: bytes, value: object):
        assert pickle.loads(data) == value

    def test_the_old_names_of_the_plain_classes(self):
        for module, name in (("departure", "Departure"), ("stats", "PeerStats"), ("stats", "ServerStats")):
            found = pickle.loads(f"cdeli_com.{module}\n{name}\n.".encode())
            assert found is getattr(deli_com, name)
