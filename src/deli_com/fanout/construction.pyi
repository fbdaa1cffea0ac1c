from typing import TypeVar

_T = TypeVar("_T")

def bare(cls: type[_T]) -> _T: ...
