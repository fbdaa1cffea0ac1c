"""Builds tests/cext/_probe.pyx once per session, against the deli_com that is imported."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

import deli_com

PROBE = Path(__file__).resolve().parent.parent / "cext" / "_probe.pyx"

BUILD = """
from Cython.Build import cythonize
from setuptools import Extension, setup
probe = Extension("_probe", [{source!r}], include_dirs=[{root!r}])
setup(
    name="probe",
    script_args=["-q", "build_ext", "--build-lib", {out!r}, "--build-temp", {out!r}],
    ext_modules=cythonize([probe], include_path=[{root!r}], build_dir={out!r}, quiet=True),
)
"""


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module `_probe`, compiled for this interpreter."""
    out = tmp_path_factory.mktemp("probe")
    source = out / "_probe.pyx"
    source.write_text(PROBE.read_text(encoding="utf-8"), encoding="utf-8")
    package = Path(deli_com.__file__).parent
    script = BUILD.format(out=str(out), source=str(source), package=str(package), root=str(package.parent))
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, cwd=out)
    built = next(out.rglob("_probe*" + sysconfig.get_config_var("EXT_SUFFIX")))
    spec = importlib.util.spec_from_file_location("_probe", built)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
