"""Columns and tensors of other libraries as arrays: their memory where it is the value, without a copy.

Asked only for what has no buffer protocol: tensors of torch, cupy and jax (DLPack), columns of pandas, polars
and pyarrow (`__array__`).
"""

from __future__ import annotations

from typing import Any

__all__ = ["as_array", "hint_for"]

_HOST = frozenset({1, 3, 11, 13})  # DLPack: CPU; pinned for CUDA or ROCm, and managed: host memory as well
_FROM_DEVICE = {"torch": ".cpu() copies it", "cupy": ".get() copies it", "jax": "jax.device_get copies it"}


def as_array(value: Any) -> Any:
    """A numpy array of the same values, or a str that says why there is none; None: it is no array at all."""
    cls = type(value)
    is_column = hasattr(cls, "to_numpy")
    is_tensor = hasattr(cls, "__dlpack__") and hasattr(cls, "__dlpack_device__") and not is_column
    if hasattr(cls, "columns") or not (is_tensor or hasattr(cls, "__array__")):
        return _asks_for_to_numpy(value) if is_column else None
    try:
        import numpy
    except ImportError:
        return None
    problem: Exception | None = None
    try:
        nulls = _nulls(value, numpy.dtype)
        if nulls:
            return f"got {_name(value)} with {nulls} nulls, which the wire has not: fill or drop them"
        if is_tensor:
            if value.__dlpack_device__()[0] not in _HOST:
                call = _FROM_DEVICE.get(cls.__module__.partition(".")[0], "copy it to the host")
                return f"got {_name(value)} in the memory of a device: {call}"
            try:
                return numpy.from_dlpack(value)
            except (BufferError, TypeError, RuntimeError, ValueError, AttributeError) as error:
                problem = error
                if not hasattr(cls, "__array__"):
                    raise
        made = numpy.asarray(value)
    except MemoryError:
        raise
    except Exception as error:
        return f"got {_name(value)}, and there is no array of it: {problem or error}"
    if made.dtype == object:
        return _asks_for_to_numpy(value) if is_column else f"got {_name(value)}, of objects"
    return made


def _nulls(value: Any, numpy_dtype: Any) -> int:
    # numpy has no nulls: they would become nan, and whole numbers floats with them.
    if getattr(value, "hasnans", False) and not isinstance(value.dtype, numpy_dtype):  # of pandas
        return int(value.isna().sum())
    nulls: Any = getattr(value, "null_count", 0)
    count: Any = nulls() if callable(nulls) else nulls
    return int(count)


def _name(value: Any) -> str:
    dtype = getattr(value, "dtype", None) or getattr(value, "type", None)
    name = type(value).__qualname__
    return name if dtype is None or callable(dtype) else f"{name} of {dtype}"


def _asks_for_to_numpy(value: Any) -> str:
    return f"got {_name(value)}: .to_numpy() with the dtype that you want makes an array"


def hint_for(value: Any) -> str:
    """The dtype of an array that has no contiguous buffer, and what makes one; empty for what is no array."""
    if getattr(value, "shape", None) is None:
        return ""
    dtype = getattr(value, "dtype", None)
    which = "" if dtype is None else f" of {dtype}"
    if getattr(dtype, "kind", "f") not in "biuf":
        return f"{which}: .astype makes numbers of it"
    if type(value).__module__.partition(".")[0] == "torch":
        return f"{which}: .contiguous() makes one"
    return f"{which}: np.ascontiguousarray makes one"
