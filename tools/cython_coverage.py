"""Cython's coverage plugin, taught to find the inline functions of .pxd files.

Cython's own looks for the C file that bears the .pxd's name. An inline function is compiled into every module
that cimports it, and where no module bears the name (`log/framing.pxd`) the report ends with an error.
"""

from __future__ import annotations

import os
from typing import Any

from Cython.Coverage import Plugin as CythonPlugin


class Plugin(CythonPlugin):
    """Looks for a .pxd in all the C files beside it."""

    def _find_source_files(self, filename: str) -> tuple[str | None, str | None]:
        if filename.endswith(".pxd"):
            self._find_c_source_files(os.path.dirname(filename), filename)
            if self._c_files_map and filename in self._c_files_map:
                return self._c_files_map[filename][0], None
        found: tuple[str | None, str | None] = super()._find_source_files(filename)
        return found


def coverage_init(registry: Any, options: Any) -> None:
    """Called by coverage."""
    plugin = Plugin()
    registry.add_file_tracer(plugin)
    registry.add_configurer(plugin)
