"""Puts src/ on the path of the environment that runs this, and prints what the package depends on.

Run by the Makefile, which gives the printed requirements to pip.
"""

import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    path_file = Path(sysconfig.get_path("purelib")) / "deli-com-in-place.pth"
    path_file.write_text(f"{ROOT / 'src'}\n", encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    print(" ".join(requirement.replace(" ", "") for requirement in project["dependencies"]))
