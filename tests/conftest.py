"""Runs ``async def`` tests on each event loop; how to write them is in helpers.py."""

from __future__ import annotations

import functools
import inspect
import os
import signal

os.environ.setdefault("DELI_COM_CHECK", "1")  # the core checks its invariants; read when deli_com is imported

import helpers
import pytest

# The programs of the tests would inherit an ignored SIGINT, as set by `nohup` or a shell's `&`.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "loops(*names): event loops to run an async test on, instead of all")
    config.addinivalue_line("markers", "limit(seconds): time limit of an async test")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function) or "loop_name" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("loops")
        names = marker.args if marker else tuple(helpers.LOOPS)
        if "loop_name" not in metafunc.fixturenames:
            metafunc.fixturenames.append("loop_name")
        metafunc.parametrize("loop_name", names)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    wanted = inspect.signature(pyfuncitem.function).parameters
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}
    marker = pyfuncitem.get_closest_marker("limit")
    helpers.run(
        pyfuncitem.callspec.params["loop_name"],
        functools.partial(pyfuncitem.obj, **arguments),
        marker.args[0] if marker else helpers.LIMIT_S,
    )
    return True
