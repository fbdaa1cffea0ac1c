"""Calls all methods of objects that only `__new__` has made: `python uninitialised.py` runs them.

It finds the classes by walking the package, so new ones are included. Exceptions of the calls are ignored. If
the process dies, its last line names the call. Otherwise the last line has counts.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import pkgutil
import signal
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator
from typing import Any

import deli_com

# Not methods of an object: these end the process, or open a window.
PROGRAMS = {"deli_com.__main__"}
GIVEN: list[tuple[Any, ...]] = [(), (None,), (1,), (b"abc",), (None, None), (1, 2), (None, None, None)]
COMPILED: list[type] = []
LEFT_OUT = {"__new__", "__init_subclass__", "__subclasshook__", "__class__", "__del__", "__getattribute__"}


def classes() -> Iterator[type]:
    """Every class that a module of the package holds and the package has made."""
    seen: set[type] = set()
    for info in pkgutil.walk_packages(deli_com.__path__, "deli_com."):
        if info.name in PROGRAMS or "-" in info.name or "_pyinstaller" in info.name:
            continue
        try:
            module = importlib.import_module(info.name)
        except ImportError:  # what an extra brings
            continue
        for item in vars(module).values():
            if isinstance(item, type) and item.__module__.startswith("deli_com") and item not in seen:
                seen.add(item)
                yield item


def made(cls: type) -> Any:
    """An object of a class, as `__new__` alone makes it; None where it is refused."""
    for args in GIVEN:
        for new in (cls.__new__, object.__new__):
            with contextlib.suppress(BaseException):
                return new(cls, *args)
    return None


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Name and static value of all that an object of a class has, but for what is picows' own to mend."""
    foreign = {name for base in cls.__mro__ if base.__module__.startswith("picows") for name in vars(base)}
    own = {name for base in cls.__mro__ if base.__module__.startswith("deli_com") for name in vars(base)}
    for name in dir(cls):
        if name not in LEFT_OUT and (name in own or name not in foreign):
            yield name, inspect.getattr_static(cls, name)


def run(awaitable: Any) -> None:
    """A step of what a call gave, where it is to be awaited or iterated over, and its end."""
    for method, args in (("__await__", ()), ("__iter__", ()), ("__anext__", ())):
        if hasattr(type(awaitable), method):
            with contextlib.suppress(BaseException):
                steps = getattr(awaitable, method)(*args)
                for step in ("send", "__next__", "throw", "close"):
                    with contextlib.suppress(BaseException):
                        function = getattr(steps, step, None)
                        if function is not None:
                            function(*{"send": (None,), "throw": (ZeroDivisionError(),)}.get(step, ()))
    if isinstance(awaitable, types.CoroutineType):
        awaitable.close()


def call_all(cls: type, say: Any) -> int:
    """Call, get and set everything of an uninitialised object of `cls`; give the count."""
    count = 0
    if made(cls) is None:
        return 0
    others = [thing for thing in map(made, COMPILED) if thing is not None] if cls in COMPILED else []
    given = [*GIVEN, *((other,) for other in others)]
    for name, static in members(cls):
        for args in given:
            thing = made(cls)
            say(f"{cls.__module__}.{cls.__qualname__}.{name}{tuple(map(object.__repr__, args))}")
            count += 1
            with contextlib.suppress(BaseException):
                value = getattr(thing, name)
                if callable(value):
                    run(value(*args))
            if not callable(static):
                for value in args[:1]:
                    with contextlib.suppress(BaseException):
                        setattr(thing, name, value)
                with contextlib.suppress(BaseException):
                    getattr(thing, name)
            say(f"the end of {cls.__qualname__}, after {name}")
            del thing
    for use in (
        repr,
        str,
        hash,
        len,
        iter,
        next,
        bool,
        dir,
        lambda x: x == x,
        lambda x: x < x,
    ):
        thing = made(cls)
        say(f"{use}({cls.__module__}.{cls.__qualname__})")
        count += 1
        with contextlib.suppress(BaseException):
            use(thing)  # type: ignore[operator]
    return count


def in_child(cls: type) -> tuple[int, str]:
    """How many calls a child of a fork has made; what it did when it died, or nothing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # what waits for ever is named, too

        def say(what: str) -> None:
            os.write(writing, what.encode() + b"\n")

        count = call_all(cls, say)
        say(str(count))
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        said = pipe.read().splitlines()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return (int(said[-1]), "") if code == 0 else (len(said), f"{code} at {said[-1]}")


def main() -> None:
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda args: None
    found = list(classes())
    COMPILED.extend(cls for cls in found if not hasattr(sys.modules[cls.__module__], "__cached__"))
    count = refused = 0
    os.chdir(tempfile.mkdtemp())  # a given path, as "abc", may become a file
    for cls in found:
        calls, trouble = in_child(cls)
        count += calls
        refused += not calls
        if trouble:
            print(trouble)
    print(f"{len(found)} classes, {refused} of them refuse, {count} calls")


if __name__ == "__main__":
    main()
