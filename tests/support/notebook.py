"""Runs the fragments of one page, in order, in one namespace: ``python notebook.py PAGE PORTS``.

PORTS is JSON: the ports of the page and their replacements. The working directory has the page's files. It
exits with a message with page and line if a fragment raises, or prints something else than the page shows.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import difflib
import doctest
import gc
import inspect
import io
import json
import linecache
import logging
import sys
import types
from pathlib import Path

from pages import Block, Page, read


def main(page: Page) -> None:
    logging.getLogger("deli_com").addHandler(logging.NullHandler())  # pages show refusals and cut-offs
    module = types.ModuleType("page")  # classes find their annotations' names through sys.modules
    sys.modules["page"] = module
    # Tracebacks quote the page.
    text = page.path.read_text(encoding="utf-8")
    linecache.cache[page.name] = (len(text), None, text.splitlines(keepends=True), page.name)
    with asyncio.Runner() as runner:
        for block in page.fragments:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                run(page, block, module, runner)
            if block.language != "setup":
                compare(page, block, printed.getvalue())
            elif printed.getvalue():
                sys.exit(f"{page.name}:{block.line}: the set-up prints {printed.getvalue()!r}")
        # A page closes what it opens. ResourceWarnings are forced now, and go to stderr.
        vars(module).clear()
        gc.collect()


def run(page: Page, block: Block, module: types.ModuleType, runner: asyncio.Runner) -> None:
    source = "\n" * (block.line - 1) + block.text
    code = compile(source, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:

        async def awaited() -> None:
            await eval(code, vars(module))

        runner.run(awaited())
    else:
        exec(code, vars(module))


def compare(page: Page, block: Block, printed: str) -> None:
    wanted = block.output or ""
    if not doctest.OutputChecker().check_output(wanted, printed, doctest.ELLIPSIS):
        difference = "".join(
            difflib.unified_diff(wanted.splitlines(True), printed.splitlines(True), "the page", "printed")
        )
        sys.exit(f"{page.name}:{block.line}: this block prints something else\n{difference}")


if __name__ == "__main__":
    sys.path.insert(0, "")  # the files of the page
    main(read(Path(sys.argv[1]), json.loads(sys.argv[2])))
