"""The names for annotations of fields: numbers and arrays, and `field` for defaults.

==================================  =============================================
annotation                          wire
==================================  =============================================
``u8 u16 u32 u64 i8 i16 i32 i64``   1, 2, 4, 8 bytes, little-endian
``f32 f64``                         4, 8 bytes, IEEE 754, little-endian
``Array[f32]``                      u32 count, items; one memcpy each way
``FixedArray[f64, Literal[36]]``    36 items, no count
==================================  =============================================

All other annotations are builtins; docs/wire.md lists them all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias, TypeVar, final, overload

__all__ = [
    "Array",
    "FixedArray",
    "Kind",
    "f32",
    "f64",
    "field",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
N_co = TypeVar("N_co", covariant=True)


@final
class Kind:
    """One number type of the wire. ``u8`` to ``f64`` carry it in their ``Annotated``.

    Attributes
    ----------
    name : str
        ``"u8"`` to ``"f64"``.
    size : int
        Bytes on the wire.
    typecode : str
        Type code of `array.array` and of the buffer protocol.
    numpy : str
        numpy's name for the little-endian type, for example ``"<f4"``.
    """

    __slots__ = ("name", "numpy", "size", "typecode")

    def __init__(self, name: str, size: int, typecode: str) -> None:
        self.name = name
        self.size = size
        self.typecode = typecode
        self.numpy = f"<{name[0]}{size}"

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        # Kinds are compared by identity, so pickle must restore them by name.
        return f"_{self.name.upper()}"


_U8, _U16, _U32, _U64 = Kind("u8", 1, "B"), Kind("u16", 2, "H"), Kind("u32", 4, "I"), Kind("u64", 8, "Q")
_I8, _I16, _I32, _I64 = Kind("i8", 1, "b"), Kind("i16", 2, "h"), Kind("i32", 4, "i"), Kind("i64", 8, "q")
_F32, _F64 = Kind("f32", 4, "f"), Kind("f64", 8, "d")
_BOOL = Kind("bool", 1, "?")  # only for NDArray[np.bool_]; a bool is not a number

KINDS = (_U8, _U16, _U32, _U64, _I8, _I16, _I32, _I64, _F32, _F64)

u8: TypeAlias = Annotated[int, _U8]
u16: TypeAlias = Annotated[int, _U16]
u32: TypeAlias = Annotated[int, _U32]
u64: TypeAlias = Annotated[int, _U64]
i8: TypeAlias = Annotated[int, _I8]
i16: TypeAlias = Annotated[int, _I16]
i32: TypeAlias = Annotated[int, _I32]
i64: TypeAlias = Annotated[int, _I64]
f32: TypeAlias = Annotated[float, _F32]
f64: TypeAlias = Annotated[float, _F64]


class Array(Protocol[T_co]):
    """A sequence of numbers in one C-contiguous buffer, copied by one memcpy each way.

    Accepted values: an ``ndarray``, ``array.array`` or ``memoryview`` of exactly this kind and item size
    (``bytes`` for ``Array[u8]``). Decoding gives an ``array.array``.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T_co: ...
    def __iter__(self) -> Iterator[T_co]: ...

    if TYPE_CHECKING and sys.version_info >= (3, 12):
        # numpy's stubs declare __buffer__ only for Python versions that have it.
        def __buffer__(self, flags: int, /) -> memoryview: ...


class FixedArray(Protocol[T_co, N_co]):
    """Exactly ``N`` items without a count, like Rust's ``[T; N]``: ``FixedArray[f64, Literal[36]]``.

    Accepted values: a list, a tuple, or a buffer as for `Array`. Decoding gives an ``array.array`` for
    numbers, else a tuple.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T_co: ...
    def __iter__(self) -> Iterator[T_co]: ...

    if not TYPE_CHECKING:

        def __class_getitem__(cls, args):
            # typing refuses a plain number as an argument, so 36 becomes Literal[36].
            if isinstance(args, tuple) and len(args) == 2 and type(args[1]) is int:
                args = (args[0], Literal[args[1]])
            return super().__class_getitem__(args)


@final
class FieldOptions:
    """The arguments of `field`; `MISSING` for those that are not given."""

    __slots__ = ("default", "default_factory", "kw_only", "renamed_from")

    def __init__(
        self,
        default: object,
        default_factory: object,
        kw_only: bool | None,
        renamed_from: tuple[str, ...] = (),
    ) -> None:
        self.default = default
        self.default_factory = default_factory
        self.kw_only = kw_only
        self.renamed_from = renamed_from


@final
class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


@overload
def field(*, default: None, kw_only: bool = ..., renamed_from: str | tuple[str, ...] = ...) -> Any: ...
@overload
def field(*, default: T, kw_only: bool = ..., renamed_from: str | tuple[str, ...] = ...) -> T: ...
@overload
def field(
    *, default_factory: Callable[[], T], kw_only: bool = ..., renamed_from: str | tuple[str, ...] = ...
) -> T: ...
@overload
def field(*, kw_only: bool = ..., renamed_from: str | tuple[str, ...] = ...) -> Any: ...
def field(
    *, default: Any = MISSING, default_factory: Any = MISSING, kw_only: Any = None, renamed_from: Any = ()
) -> Any:
    """Set options of a field.

    Parameters
    ----------
    default : object, optional
        Immutable. It is used if the constructor gets no value, and if a received version of the class lacks
        the field. None where the field is a dimension that `Shape` names: it is taken from the array.
    default_factory : callable, optional
        Called without arguments for each new value: ``field(default_factory=list)``.
    kw_only : bool, optional
        The field is keyword-only in the constructor. Default: as its class says.
    renamed_from : str or tuple of str, optional
        Name of the field in other versions of the class. If a writer's schema has a field of this name, and
        none of the field's own name, that field is read. This is not sent on the wire.

    Raises
    ------
    ValueError
        Both a default and a default factory.
    """
    if default is not MISSING and default_factory is not MISSING:
        raise ValueError("field: give default or default_factory, not both")
    if default_factory is not MISSING and not callable(default_factory):
        raise TypeError(f"field: default_factory must be callable, got {type(default_factory).__name__}")
    names = (renamed_from,) if isinstance(renamed_from, str) else renamed_from
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"field: renamed_from is a name or a tuple of names, got {renamed_from!r}")
    return FieldOptions(default, default_factory, kw_only, names)
