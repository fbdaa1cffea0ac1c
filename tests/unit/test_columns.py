"""Columns and tensors of other libraries in arrays: taken without a copy where that can be, else refused.

pandas, polars, pyarrow and jax where they are installed. torch and cupy are too large for the tests: objects
with their protocols stand for them.
"""

from __future__ import annotations

import array
import tracemalloc
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deli_com import Array, Codec, FixedArray, Shape, codec, errors, f32, f64, field, i8, i32, i64, u8, u32

Bools = NDArray[np.bool_]


def refused(tp: Any, value: Any) -> str:
    with pytest.raises(errors.EncodeError) as caught:
        codec(tp).to_bytes(value)
    return caught.value.detail


def same(tp: Any, value: Any, wanted: list[Any]) -> None:
    """The value is written as the list of the same numbers."""
    raw = np.array(wanted, np.bool_ if tp is Bools else None)
    item = {
        Array[i64]: np.int64,
        Array[f64]: np.float64,
        Array[f32]: np.float32,
        Array[u8]: np.uint8,
        Bools: np.bool_,
    }
    expected = len(wanted).to_bytes(4, "little") + raw.astype(item[tp]).tobytes()
    assert codec(tp).to_bytes(value) == expected


class TestBytes:
    def test_formats_that_mean_bytes(self) -> None:
        for value in (memoryview(b"abc").cast("b"), memoryview(b"abc").cast("c"), bytearray(b"abc")):
            assert codec(Array[u8]).to_bytes(value) == b"\3\0\0\0abc"
            assert codec(bytes).to_bytes(value) == b"\3\0\0\0abc"

    def test_signed_numbers_are_no_bytes(self) -> None:
        assert "dtype int8: .astype(np.uint8) converts" in refused(Array[u8], np.array([1], np.int8))
        assert "expected items of u8" in refused(Array[u8], array.array("b", [1]))
        assert "expected items of i8" in refused(Array[i8], memoryview(b"abc").cast("c"))

    def test_arrays_of_bools(self) -> None:
        flags = np.array([True, False, True])
        assert (
            codec(Bools).to_bytes(flags)
            == b"\3\0\0\0\1\0\1"
            == codec(list[bool]).to_bytes([True, False, True])
        )
        assert codec(Bools).from_bytes(b"\2\0\0\0\0\1").tolist() == [False, True]
        with pytest.raises(errors.InvalidBool):
            codec(Bools).from_bytes(b"\1\0\0\0\2")
        assert "dtype" in refused(Bools, np.zeros(2, np.uint8))


class TestPandas:
    pd = property(lambda self: pytest.importorskip("pandas", reason="pandas is not installed"))

    def test_series(self) -> None:
        pd = self.pd
        same(Array[i64], pd.Series([1, 2, 3]), [1, 2, 3])
        same(Array[f64], pd.Series([1.0, float("inf")]), [1.0, float("inf")])
        same(Array[i64], pd.Index([4, 5]), [4, 5])
        same(Array[i64], pd.Series([1, 2], dtype="Int64"), [1, 2])
        same(Bools, pd.Series([True, False]), [True, False])

    def test_refused_in_words(self) -> None:
        pd = self.pd
        assert "with 1 nulls" in refused(Array[i64], pd.Series([1, None], dtype="Int64"))
        assert ".to_numpy()" in refused(Array[i64], pd.DataFrame({"a": [1]}))
        assert ".to_numpy()" in refused(Array[i64], pd.Series(["a"]))
        assert "dtype float64: .astype(np.int64)" in refused(Array[i64], pd.Series([1.5]))
        assert "np.ascontiguousarray" in refused(Array[f64], pd.Series([1.0, 2.0, 3.0])[::2])
        assert "datetime64" in refused(Array[i64], pd.Series(pd.to_datetime(["2020-01-01"])))


class TestPolars:
    pl = property(lambda self: pytest.importorskip("polars", reason="polars is not installed"))

    def test_series(self) -> None:
        pl = self.pl
        same(Array[i64], pl.Series([1, 2, 3]), [1, 2, 3])
        same(Bools, pl.Series([True, False]), [True, False])

    def test_refused_in_words(self) -> None:
        pl = self.pl
        assert "with 1 nulls" in refused(Array[f64], pl.Series([1.0, None]))
        assert ".to_numpy()" in refused(Array[i64], pl.DataFrame({"a": [1]}))
        assert "dtype int64: .astype(np.uint8)" in refused(Array[u8], pl.Series([1]))


class TestPyarrow:
    pa = property(lambda self: pytest.importorskip("pyarrow", reason="pyarrow is not installed"))

    def test_arrays_and_buffers(self) -> None:
        pa = self.pa
        same(Array[i64], pa.array([1, 2, 3]), [1, 2, 3])
        same(Array[f64], pa.array([1.0, 2.0, 3.0])[1:], [2.0, 3.0])
        same(Array[i64], pa.chunked_array([[1], [2]]), [1, 2])
        same(Bools, pa.array([True, False]), [True, False])
        same(Array[u8], pa.py_buffer(b"abc"), list(b"abc"))
        assert codec(bytes).to_bytes(pa.py_buffer(b"abc")) == b"\3\0\0\0abc"

    def test_refused_in_words(self) -> None:
        pa = self.pa
        assert "with 1 nulls" in refused(Array[i64], pa.array([1, None]))
        assert ".to_numpy()" in refused(Array[i64], pa.array(["a"]))
        assert "expected items of f64" in refused(Array[f64], pa.array([1]))
        assert "expected a buffer of i64, got Table" in refused(Array[i64], pa.table({"a": [1]}))


class TestJax:
    jnp = property(lambda self: pytest.importorskip("jax.numpy", reason="jax is not installed"))

    def test_arrays(self) -> None:
        jnp = self.jnp
        same(Array[f32], jnp.ones(3), [1.0, 1.0, 1.0])
        same(Bools, jnp.array([True, False]), [True, False])

        class Points(Codec):
            n: u32 = field(default=None, kw_only=True)
            points: Annotated[NDArray[np.float32], Shape("n", 3)]

        read = Points.from_bytes(Points(jnp.ones((2, 3))).to_bytes())
        assert (read.n, read.points.tolist()) == (2, [[1.0] * 3] * 2)
        with pytest.raises(errors.EncodeError, match=r"expected shape \(2, 3\).*got \(2, 4\)"):
            Points(jnp.ones((2, 4))).to_bytes()

    def test_refused_in_words(self) -> None:
        jnp = self.jnp
        assert "dtype float32: .astype(np.int32)" in refused(Array[i32], jnp.ones(3))
        assert "bfloat16" in refused(Array[f32], jnp.ones(3, dtype=jnp.bfloat16))
        assert "its ravel() has one" in refused(NDArray[np.float32], jnp.ones((2, 3)))


class Tensor:
    """What stands for a tensor: DLPack as its library has it, `__array__` where `array` is given."""

    def __init__(self, data: NDArray[Any], device: int = 1, needs_grad: bool = False) -> None:
        self.data = data
        self.device = device
        self.needs_grad = needs_grad
        self.dtype = f"torch.{data.dtype}"
        self.shape = data.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self.device, 0)

    def __dlpack__(self, **options: Any) -> Any:
        if self.needs_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return self.data.__dlpack__(**options)


class TensorWithArray(Tensor):
    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        if self.needs_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy()")
        return self.data


TorchTensor = type("Tensor", (TensorWithArray,), {"__module__": "torch"})
CupyTensor = type("ndarray", (Tensor,), {"__module__": "cupy"})


class TestTensors:
    @pytest.mark.parametrize("cls", [Tensor, TensorWithArray, TorchTensor])
    def test_memory_of_the_host(self, cls: Any) -> None:
        same(Array[f32], cls(np.ones(3, np.float32)), [1.0] * 3)
        assert codec(NDArray[np.uint8]).to_bytes(cls(np.ones(2, np.uint8), 3)) == b"\2\0\0\0\1\1"
        assert codec(FixedArray[u8, 2]).to_bytes(cls(np.ones(2, np.uint8))) == b"\1\1"

    def test_there_is_no_copy_but_the_one_into_the_bytes(self) -> None:
        tensor = Tensor(np.ones(1_000_000, np.float32))
        encoder = codec(Array[f32])
        encoder.to_bytes(tensor)
        tracemalloc.start()
        try:
            encoder.to_bytes(tensor)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 5_000_000

    def test_memory_of_a_device_names_the_call(self) -> None:
        assert ".cpu()" in refused(Array[f32], TorchTensor(np.ones(3, np.float32), 2))
        assert ".get()" in refused(Array[f32], CupyTensor(np.ones(3, np.float32), 2))
        assert "memory of a device" in refused(Array[f32], Tensor(np.ones(3, np.float32), 8))

    def test_what_the_library_says_is_passed_on(self) -> None:
        assert "detach()" in refused(Array[f32], TorchTensor(np.ones(3, np.float32), needs_grad=True))
        assert "detach()" in refused(Array[f32], Tensor(np.ones(3, np.float32), needs_grad=True))

    def test_shapes(self) -> None:
        tp = codec(Annotated[NDArray[np.float32], Shape(2, 3)])
        assert tp.from_bytes(tp.to_bytes(TorchTensor(np.ones((2, 3), np.float32)))).shape == (2, 3)
        with pytest.raises(errors.EncodeError, match=r"expected shape \(2, 3\), got \(3, 2\)"):
            tp.to_bytes(TorchTensor(np.ones((3, 2), np.float32)))
        assert "np.ascontiguousarray" in refused(Array[f32], Tensor(np.ones((2, 3), np.float32).T))

    def test_what_runs_out_of_memory_goes_on_as_it_is(self) -> None:
        class Broken:
            def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
                raise MemoryError

        class Odd:
            def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
                raise ZeroDivisionError("odd")

        with pytest.raises(MemoryError):
            codec(Array[f32]).to_bytes(Broken())  # type: ignore[arg-type]
        assert "there is no array of it: odd" in refused(Array[f32], Odd())
