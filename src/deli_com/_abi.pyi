from collections.abc import Callable

VERSION: str
PICOWS: str
AIOFASTNET: str

def check(find: Callable[[str], str] = ...) -> None: ...
