"""Puts src/ on the path of the environment that runs this, and its console scripts beside the interpreter.

Prints what the package depends on.

Run by the Makefile, which gives the printed requirements to pip.
"""

import os
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    path_file = Path(sysconfig.get_path("purelib")) / "deli-com-in-place.pth"
    path_file.write_text(f"{ROOT / 'src'}\n", encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if os.name == "posix":
        for name, place in project["scripts"].items():
            module, _, function = place.partition(":")
            script = Path(sysconfig.get_path("scripts"), name)
            script.write_text(
                f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
            )
            script.chmod(0o755)
    print(" ".join(requirement.replace(" ", "") for requirement in project["dependencies"]))
