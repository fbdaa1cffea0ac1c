"""Can the interpreter that runs this build and test deli-com? Prints its path, or why not (exit code 1).

Asked of whatever is called python on a machine, so it is written to parse on any Python.
"""

import os
import sys
import sysconfig


def problem():
    if sys.version_info < (3, 11):
        return "is %d.%d" % sys.version_info[:2]
    if sys.implementation.name != "cpython":
        return "is %s, not CPython" % sys.implementation.name
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "is free-threaded, which deli-com does not support yet"
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        return "has no %s (Debian and Ubuntu: install python3-venv)" % error.name
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return "has no Python.h (Debian and Ubuntu: install python3-dev)"
    if os.name == "posix":
        import shutil

        compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
        if not shutil.which(compiler):
            return (
                "needs the C compiler '%s', which is not there (install gcc or clang, or set CC)" % compiler
            )
    return None


if __name__ == "__main__":
    reason = problem()
    if reason:
        sys.exit(reason)
    # The base interpreter: a venv of a venv would tie ours to the life of another.
    base = getattr(sys, "_base_executable", None) or sys.executable
    print(base)
