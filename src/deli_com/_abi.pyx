"""The import-time check: what is installed is what this build was compiled against.

The core subclasses picows' compiled classes. Cython compares the size of such a class at import, not its
method table: beside a picows whose table has moved, a call lands in the wrong method without a word. So
the versions are compared first, from the installed metadata: importing picows to ask it would load the
very module in question. `deli_com/__init__.py` imports this module before any other.

picows must match exactly, aiofastnet in major and minor: picows' .pxd files change in minor and sometimes
in patch releases, and of aiofastnet only documented behaviour is relied on.
"""

from importlib import metadata

# setup.py defines the versions as bare tokens.
cdef extern from *:
    """
    #define DELI_COM_QUOTE_(token) #token
    #define DELI_COM_QUOTE(token) DELI_COM_QUOTE_(token)
    """
    const char* _version "DELI_COM_QUOTE(DELI_COM_VERSION)"
    const char* _picows "DELI_COM_QUOTE(DELI_COM_PICOWS)"
    const char* _aiofastnet "DELI_COM_QUOTE(DELI_COM_AIOFASTNET)"

VERSION = _version.decode("ascii")
PICOWS = _picows.decode("ascii")
AIOFASTNET = _aiofastnet.decode("ascii")


def check(find=metadata.version):
    """Compare what is installed with what this build was compiled against.

    Parameters
    ----------
    find : callable, optional
        Takes a distribution's name and gives its version, as `importlib.metadata.version` does.

    Raises
    ------
    ImportError
        Another version is installed, or none.
    """
    for name, built, parts in (("picows", PICOWS, None), ("aiofastnet", AIOFASTNET, 2)):
        try:
            found = find(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found.split(".")[:parts] != built.split(".")[:parts]:
            raise ImportError(
                f"deli_com was built for {name} {built}, found {found}; reinstall deli-com", name="deli_com"
            )


check()
