"""Where PyInstaller finds the hook of this package (entry point ``pyinstaller40``)."""

from pathlib import Path

__all__ = ["hook_directories"]


def hook_directories() -> list[str]:
    """The folders that hold ``hook-*.py``, as PyInstaller asks for them."""
    return [str(Path(__file__).parent)]
