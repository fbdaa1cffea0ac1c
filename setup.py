"""The extension list and the build switches; all static metadata is in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("DELI_COM_DEBUG") == "1"
ANNOTATE = os.environ.get("DELI_COM_ANNOTATE") == "1"

sources = sorted(Path("src/deli_com").glob("*.pyx"))

setup(
    ext_modules=cythonize(
        [
            Extension(f"deli_com.{path.stem}", [str(path)], extra_compile_args=["-O2", "-g0" if not DEBUG else "-g"])
            for path in sources
        ],
        annotate=ANNOTATE,
        include_path=["src"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "auto_pickle": False,
            "autotestdict": False,
        },
    )
)
