"""What PyInstaller cannot see: compiled modules import one another, picows and aiofastnet from C."""

from PyInstaller.utils.hooks import collect_submodules, copy_metadata  # type: ignore[import-untyped]

EXTRAS = ("demo", "_pyinstaller")  # an application that uses one of these imports it by name


def _wanted(name: str) -> bool:
    return name.removeprefix("deli_com.").partition(".")[0] not in EXTRAS


hiddenimports = [
    *collect_submodules("deli_com", filter=_wanted),
    *collect_submodules("picows"),
    *collect_submodules("aiofastnet"),
]

# The import compares their versions with those that it was built for (deli_com/_abi.pyx).
datas = [*copy_metadata("picows"), *copy_metadata("aiofastnet")]
