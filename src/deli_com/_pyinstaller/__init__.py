"""Tells PyInstaller where the hook of this package is (entry point ``pyinstaller40``)."""

from pathlib import Path

__all__ = ["hook_directories"]


def hook_directories() -> list[str]:
    """The folders with ``hook-*.py``. PyInstaller calls this."""
    return [str(Path(__file__).parent)]
