"""`Name[Down, Up]` at run time: a subclass for each pair of types, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, get_origin

from typing_extensions import TypeVar

from deli_com._fastcodec import TypeCodec
from deli_com.coding.registry import codec

__all__ = ["Down", "Framing", "Typed", "Up"]

Framing: TypeAlias = Literal["ws-server", "ws-client", "tcp"]  # the framings of log.log.Log

Down = TypeVar("Down")
Up = TypeVar("Up", default=Down)


class Typed:
    """Gives a server or client class its types.

    ``Name[T]`` means ``Name[T, T]``, and ``Name[T] is Name[T]``. Types are compiled when a server or client
    is opened, not here. So a type may be named before all of its variants are defined.
    """

    __slots__ = ()

    _types: ClassVar[tuple[Any, Any] | None] = None
    _made: ClassVar[dict[Any, Any]] = {}

    if not TYPE_CHECKING:  # for type checkers the classes are generic

        def __class_getitem__(cls, parameters: Any) -> Any:
            return cls._parametrize(parameters)

    @classmethod
    def _parametrize(cls, parameters: Any) -> Any:
        types = parameters if isinstance(parameters, tuple) else (parameters, parameters)
        if len(types) != 2:
            raise TypeError(
                f"{cls.__name__} takes one type or two, {cls.__name__}[T] or {cls.__name__}[Down, Up], "
                f"got {len(types)}: {', '.join(map(_name, types)) or '()'}"
            )
        down, up = types
        if isinstance(down, TypeVar) or isinstance(up, TypeVar):
            return cls  # generic code, `class Mine(WsServer[T])`: the types come later
        if cls._types is not None:
            raise TypeError(f"{cls.__name__} already has its types")
        key = (cls, down, up)
        try:
            made = cls._made.get(key)
        except TypeError:  # an annotation may be unhashable
            return cls._make(down, up)
        if made is None:
            made = cls._made[key] = cls._make(down, up)
        return made

    @classmethod
    def _make(cls, down: Any, up: Any) -> Any:
        names = _name(down) if up is down else f"{_name(down)}, {_name(up)}"
        return type(
            f"{cls.__name__}[{names}]",
            (cls,),
            {"__module__": cls.__module__, "__doc__": cls.__doc__, "_types": (down, up)},
        )

    @classmethod
    def _codecs(cls, call: str) -> tuple[TypeCodec[Any], TypeCodec[Any] | None]:
        """Compile the types that the server sends, and that clients send (None if they send nothing)."""
        if cls._types is None:
            raise TypeError(f"which types? write {cls.__name__}[T].{call} or {cls.__name__}[Down, Up].{call}")
        down, up = cls._types
        return codec(down), None if up is None else codec(up)


def _name(type_: Any) -> str:
    if get_origin(type_) is Annotated:  # u32 and the like
        return str(type_.__metadata__[0])
    return type_.__name__ if isinstance(type_, type) else str(type_)
