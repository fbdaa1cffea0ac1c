"""Docstrings of compiled modules, for the reference.

griffe reads signatures and types from a module's ``.pyi``; the docstrings are in the compiled module. This extension
brings the two together. `deli_com` must be importable, as built by ``make build``.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import griffe


class CompiledDocstrings(griffe.Extension):
    """Gives what a ``.pyi`` declares the docstring that the module of that name has at run time."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        for module in pkg.modules.values():
            if module.is_module and not module.is_alias and module.filepath.suffix == ".pyi":
                _complete(module, importlib.import_module(module.path))


def _complete(parent: griffe.Module | griffe.Class, runtime: Any) -> None:
    for name, member in parent.members.items():
        found = vars(runtime).get(name)
        if member.is_alias or found is None:
            continue
        if member.docstring is None and (text := getattr(found, "__doc__", None)):
            member.docstring = griffe.Docstring(inspect.cleandoc(text), parent=member, parser="numpy")
        if member.is_class:
            _complete(member, found)
