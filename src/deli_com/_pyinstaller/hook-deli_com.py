"""Lists imports that PyInstaller cannot see: compiled modules import each other and picows in C."""

from PyInstaller.utils.hooks import collect_submodules, copy_metadata  # type: ignore[import-untyped]

EXTRAS = ("demo", "_pyinstaller")  # an application that uses these imports them by name


def _wanted(name: str) -> bool:
    return name.removeprefix("deli_com.").partition(".")[0] not in EXTRAS


hiddenimports = [
    *collect_submodules("deli_com", filter=_wanted),
    *collect_submodules("picows"),
    *collect_submodules("aiofastnet"),
]

# At import, their versions are compared with those of the build (deli_com/_abi.pyx).
datas = [*copy_metadata("picows"), *copy_metadata("aiofastnet")]
