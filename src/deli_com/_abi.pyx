"""The check at import: the installed dependencies must match those of the build.

The core subclasses picows' compiled classes. At import, Cython compares the sizes of these classes, but not
their method tables. With another picows, a call may silently reach the wrong method. So the versions are
compared first, from the installed metadata, because importing picows would load the modules in question.
`deli_com/__init__.py` imports this module before any other.

picows must match exactly, aiofastnet in major and minor version. picows' .pxd files change in minor and
sometimes in patch releases. Of aiofastnet only documented behaviour is used.
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
    """Compare the installed dependencies with those of the build.

    Parameters
    ----------
    find : callable, optional
        Takes the name of a distribution and returns its version, like `importlib.metadata.version`.

    Raises
    ------
    ImportError
        Another version, or none, is installed.
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
