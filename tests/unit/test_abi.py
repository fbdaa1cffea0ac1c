"""The import-time check, and the facts about picows that the core depends on.

An update of the pin starts here: these tests show what has changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import picows
import pytest

from deli_com import _abi

# sha256 of picows.pxd 2.3.1 without comments and blank lines. If it changes: compare the files, check that
# the names that the core cimports still exist with the same meaning, then write the new hash.
PICOWS_PXD = "af93513c284adbe48ec97abd673a3c0fa07c3b0889ea6ed0f145cd37a2505e73"


def without_comments(text: str) -> str:
    """The lines of a .pxd that say something, without comments and trailing space."""
    lines = (re.sub(r"\s*#.*", "", line).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def installed(**other: str):
    """A stand-in for `importlib.metadata.version` that finds other versions than those installed."""
    return lambda name: other.get(name) or importlib.metadata.version(name)


class TestCheck:
    def test_what_is_installed_is_what_was_built_for(self) -> None:
        _abi.check()
        assert importlib.metadata.version("picows") == _abi.PICOWS

    @pytest.mark.parametrize("found", ["2.3.0", "2.3.2", "2.4.0", "2.3", "2.3.1.post1", "12.3.1"])
    def test_any_other_picows_is_refused(self, found: str) -> None:
        with pytest.raises(ImportError) as caught:
            _abi.check(installed(picows=found))
        assert (
            str(caught.value)
            == f"deli_com was built for picows {_abi.PICOWS}, found {found}; reinstall deli-com"
        )
        assert caught.value.name == "deli_com"

    def test_a_patch_release_of_aiofastnet_passes(self) -> None:
        major, minor, _ = _abi.AIOFASTNET.split(".", 2)
        _abi.check(installed(aiofastnet=f"{major}.{minor}.99"))

    @pytest.mark.parametrize("found", ["1.1.9", "1.3.0", "2.2.0", "1"])
    def test_another_minor_release_of_aiofastnet_is_refused(self, found: str) -> None:
        with pytest.raises(
            ImportError, match=f"built for aiofastnet .*, found {re.escape(found)}; reinstall"
        ):
            _abi.check(installed(aiofastnet=found))

    def test_nothing_installed_is_refused(self) -> None:
        def find(name: str) -> str:
            raise importlib.metadata.PackageNotFoundError(name)

        with pytest.raises(ImportError, match="found none; reinstall deli-com"):
            _abi.check(find)

    def test_import_fails_before_the_compiled_picows_is_loaded(self, tmp_path: Path) -> None:
        """Another picows that comes first on the path stops the import, and is not imported itself."""
        (tmp_path / "picows-2.4.0.dist-info").mkdir()
        (tmp_path / "picows-2.4.0.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: picows\nVersion: 2.4.0\n", encoding="utf-8"
        )
        script = (
            "import sys\n"
            "try:\n"
            "    import deli_com\n"
            "except ImportError as error:\n"
            "    print(error)\n"
            "print(sorted(name for name in sys.modules if name.startswith('picows')))\n"
        )
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.splitlines() == [
            f"deli_com was built for picows {_abi.PICOWS}, found 2.4.0; reinstall deli-com",
            "[]",
        ]

    def test_import_is_silent(self) -> None:
        """Cython reports a cimported class whose size has moved as a warning; here it would be an error."""
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", "import deli_com"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert (ran.stdout, ran.stderr) == ("", "")


def test_the_contract_that_was_compiled_against_is_the_one_reviewed() -> None:
    pxd = Path(picows.__file__).with_name("picows.pxd").read_text(encoding="utf-8")
    assert hashlib.sha256(without_comments(pxd).encode()).hexdigest() == PICOWS_PXD
