"""Docstrings for the reference: those of compiled modules, and all of them as Markdown.

griffe reads signatures and types from a module's ``.pyi``; the docstrings are in the compiled module. This
extension brings the two together. `deli_com` must be importable, as built by ``make build``. What docstrings
have of reStructuredText beside numpydoc, literal blocks and simple tables, is turned into Markdown.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe

_LITERAL = re.compile(r"(?m)^::\n|::$")
_TABLE = re.compile(r"(?m)^([ ]*)=+( +=+)+\n(?:.*\n)+?\1=+( +=+)+$(?:\n(?:.+\n)+?\1=+( +=+)+$)?")


class Docstrings(griffe.Extension):
    """Gives each object the docstring that it has at run time, as Markdown."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        for module in _modules(pkg):
            _complete(module, importlib.import_module(module.path))


def _modules(parent: griffe.Module) -> list[griffe.Module]:
    found = [parent]
    for module in parent.modules.values():
        if not module.is_alias and module.name not in ("__main__", "demo"):
            found += _modules(module)
    return found


def _complete(parent: griffe.Module | griffe.Class, runtime: Any) -> None:
    if parent.is_module and parent.docstring is not None:
        parent.docstring.value = _markdown(parent.docstring.value)
    for name, member in parent.members.items():
        found = vars(runtime).get(name)
        if member.is_alias or member.is_module:
            continue
        if member.docstring is None and (member.is_function or member.is_class or _is_property(found)):
            text = getattr(found, "__doc__", None)
            if text:
                member.docstring = griffe.Docstring(inspect.cleandoc(text), parent=member, parser="numpy")
        if member.docstring is not None:
            member.docstring.value = _markdown(member.docstring.value)
        if member.is_class and found is not None:
            _complete(member, found)


def _is_property(found: Any) -> bool:
    return isinstance(found, property) or inspect.isgetsetdescriptor(found)


def _markdown(text: str) -> str:
    text = _TABLE.sub(lambda found: _fenced(found[0], found[1]), text)
    return _LITERAL.sub(lambda found: "" if found[0].startswith("::\n") else ":", text)


def _fenced(table: str, indent: str) -> str:
    return f"{indent}```text\n{table}\n{indent}```"
