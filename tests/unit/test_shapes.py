"""Arrays with a shape: where their dimensions come from, what is checked, what the schema says of them."""

from __future__ import annotations

import copy
import pickle
import struct
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deli_com import Codec, FixedArray, Schema, Shape, codec, errors, f32, field, i8, i64, u8, u16, u32, u64

Pixels = Annotated[NDArray[np.uint8], Shape("height", "width", 3)]


class Image(Codec):
    height: u32 = field(default=None, kw_only=True)
    width: u32 = field(default=None, kw_only=True)
    pixels: Pixels


class Flat(Codec):
    height: u32
    width: u32
    pixels: bytes


class Behind(Codec):
    pixels: Annotated[NDArray[np.float32], Shape("height", "width")]
    width: u16
    height: i8


class Frozen(Codec, frozen=True):
    count: u8 = field(default=None, kw_only=True)
    points: Annotated[NDArray[np.float32], Shape("count", 3)]


class Scene(Codec):
    images: list[Image]
    best: Image | None
    clouds: tuple[Frozen, ...]


class Message(Codec, sealed=True):
    robot: u8


class Empty(Message):
    pass


class Depth(Message, frozen=False):
    rows: u32
    depth: Annotated[NDArray[np.uint16], Shape("rows", 4)]


class Maybe(Codec):
    n: u16
    some: Annotated[NDArray[np.float64], Shape("n", 2)] | None
    every: list[Annotated[NDArray[np.bool_], Shape("n")]]
    pair: FixedArray[Annotated[NDArray[np.uint8], Shape(2, 2)], Literal[2]]


class Row(Codec):
    x: f32
    flag: bool


class Grid(Codec):
    rows: Annotated[NDArray[np.void], Row, Shape("n", 2)]
    n: u8


def image(height: int = 4, width: int = 5) -> NDArray[np.uint8]:
    return (np.arange(height * width * 3) % 251).astype(np.uint8).reshape(height, width, 3)


def refused(value: Any) -> errors.EncodeError:
    with pytest.raises(errors.EncodeError) as caught:
        value.to_bytes()
    return caught.value


class TestRoundTrip:
    def test_named_dimensions_are_taken_from_the_array(self) -> None:
        """The value stays as it is; the bytes have the numbers, and so has what is decoded."""
        pixels = image()
        sent = Image(pixels)
        read = Image.from_bytes(sent.to_bytes())
        assert (sent.height, sent.width) == (None, None)
        assert (read.height, read.width) == (4, 5)
        assert read.pixels.shape == (4, 5, 3)
        assert read.pixels.flags.writeable
        assert (read.pixels == pixels).all()

    def test_the_bytes_are_those_of_fields_without_a_shape(self) -> None:
        pixels = image()
        wanted = Flat(4, 5, pixels.tobytes()).to_bytes()
        assert Image(pixels).to_bytes() == Image(pixels, height=4, width=5).to_bytes() == wanted
        assert wanted == struct.pack("<III", 4, 5, 60) + pixels.tobytes()
        bare = codec(NDArray[np.uint8]).to_bytes(pixels.ravel())
        assert codec(Annotated[NDArray[np.uint8], Shape(4, 5, 3)]).to_bytes(pixels) == bare

    def test_dimensions_may_stand_behind_the_array(self) -> None:
        depth = np.ones((3, 7), np.float32)
        read = Behind.from_bytes(Behind(depth, None, None).to_bytes())  # type: ignore[arg-type]
        assert (read.width, read.height, read.pixels.shape) == (7, 3, (3, 7))

    def test_in_nested_structs_lists_options_and_frozen_classes(self) -> None:
        scene = Scene(
            [Image(image(1, 2)), Image(image(3, 1))], Image(image(2, 2)), (Frozen(np.eye(3, dtype="f")),)
        )
        read = Scene.from_bytes(scene.to_bytes())
        assert [found.pixels.shape for found in read.images] == [(1, 2, 3), (3, 1, 3)]
        assert read.best is not None
        assert read.best.pixels.shape == (2, 2, 3)
        assert read.clouds[0].points.shape == (3, 3)
        assert read.clouds[0].count == 3

    def test_in_variants(self) -> None:
        value = Depth(7, 2, np.zeros((2, 4), np.uint16))
        read = codec(Message).from_bytes(codec(Message).to_bytes(value))
        assert isinstance(read, Depth)
        assert read.depth.shape == (2, 4)
        assert Depth.from_bytes(value.to_bytes()).depth.shape == (2, 4)

    def test_inside_options_lists_and_fixed_arrays_of_one_field(self) -> None:
        pair = (np.zeros((2, 2), np.uint8),) * 2
        value = Maybe(None, None, [np.ones(3, np.bool_)] * 2, pair)  # type: ignore[arg-type]
        read = Maybe.from_bytes(value.to_bytes())
        assert read.n == 3
        assert read.some is None
        assert [flags.shape for flags in read.every] == [(3,), (3,)]
        assert [found.shape for found in read.pair] == [(2, 2), (2, 2)]
        value = Maybe(0, np.zeros((0, 2)), [], pair)
        assert Maybe.from_bytes(value.to_bytes()).some.shape == (0, 2)  # type: ignore[union-attr]

    def test_where_there_is_no_array_a_dimension_left_out_is_zero(self) -> None:
        pair = (np.zeros((2, 2), np.uint8),) * 2
        assert Maybe.from_bytes(Maybe(None, None, [], pair).to_bytes()).n == 0  # type: ignore[arg-type]
        assert Maybe.from_bytes(Maybe(9, None, [], pair).to_bytes()).n == 9

    def test_structured_arrays(self) -> None:
        rows = np.zeros((3, 2), codec(Row).dtype)
        rows["x"] = 1.5
        read = Grid.from_bytes(Grid(rows, None).to_bytes())  # type: ignore[arg-type]
        assert read.n == 3
        assert (read.rows == rows).all()

    def test_what_numpy_says_of_lengths(self) -> None:
        tp = codec(np.ndarray[tuple[Literal[2], Literal[3]], np.dtype[np.float32]])
        assert tp.from_bytes(tp.to_bytes(np.zeros((2, 3), np.float32))).shape == (2, 3)
        with pytest.raises(errors.EncodeError, match=r"expected shape \(2, 3\), got \(3, 2\)"):
            tp.to_bytes(np.zeros((3, 2), np.float32))
        with pytest.raises(errors.DecodeError, match=r"expected shape \(2, 3\), got \(5,\)"):
            tp.from_bytes(codec(list[f32]).to_bytes([0.0] * 5))

    @pytest.mark.parametrize("shape", [tuple[int, ...], tuple[Any, ...], Any, tuple[int]])
    def test_an_array_of_one_dimension_is_what_it_was(self, shape: Any) -> None:
        tp = codec(np.ndarray[shape, np.dtype[np.float32]])
        assert tp.from_bytes(tp.to_bytes(np.zeros(3, np.float32))).shape == (3,)

    @given(st.lists(st.integers(0, 4), min_size=4, max_size=4), st.integers(0, 3))
    def test_any_shape(self, lengths: list[int], given_ones: int) -> None:
        array = np.arange(int(np.prod(lengths)), dtype=np.int16).reshape(lengths)
        names: list[Any] = [length if place < given_ones else None for place, length in enumerate(lengths)]
        read = Four.from_bytes(Four(*names, array).to_bytes())
        assert read.array.shape == array.shape
        assert (read.array == array).all()
        assert [read.a, read.b, read.c, read.d] == lengths


class Four(Codec):
    a: u8
    b: u64
    c: i64
    d: i8
    array: Annotated[NDArray[np.int16], Shape("a", "b", "c", "d")]


class TestRefused:
    def test_a_number_that_is_given_is_checked(self) -> None:
        error = refused(Image(image(), height=3))
        assert error.path == "Image.pixels"
        assert "expected shape (3, 5, 3), that is (height, width, 3), got (4, 5, 3)" in str(error)

    def test_a_length_that_is_fixed_is_checked(self) -> None:
        assert "got (4, 5, 4)" in str(refused(Image(np.zeros((4, 5, 4), np.uint8))))

    def test_another_number_of_dimensions(self) -> None:
        error = refused(Image(image().ravel(), height=4, width=5))
        assert "expected shape (4, 5, 3), that is (height, width, 3), got (60,)" in str(error)
        assert "expected shape (height, width, 3), got (4, 15)" in str(refused(Image(image().reshape(4, 15))))

    def test_of_two_arrays_the_second_is_checked_against_the_first(self) -> None:
        class Two(Codec):
            n: u8
            a: Annotated[NDArray[np.uint8], Shape("n")]
            b: list[Annotated[NDArray[np.uint8], Shape("n", 1)]]

        arrays = [np.zeros((2, 1), np.uint8), np.zeros((3, 1), np.uint8)]
        error = refused(Two(None, np.zeros(2, np.uint8), arrays))  # type: ignore[arg-type]
        assert error.path.endswith("Two.b[1]")
        assert "expected shape (2, 1), that is (n, 1), got (3, 1)" in str(error)

    def test_a_dimension_that_does_not_fit_its_field(self) -> None:
        error = refused(Frozen(np.zeros((256, 3), np.float32)))
        assert (error.path, error.detail) == ("Frozen.count", "256 does not fit u8 (0..255)")

    def test_strides_are_refused_as_of_any_array(self) -> None:
        error = refused(Image(image()[:, ::-1]))
        assert error.path == "Image.pixels"
        assert "np.ascontiguousarray" in str(error)

    def test_what_is_no_array(self) -> None:
        for value in (None, "x", 3, [1, 2]):
            assert "expected a buffer of u8" in str(refused(Image(value)))  # type: ignore[arg-type]

    def test_another_dtype(self) -> None:
        assert "dtype float64: .astype(np.uint8)" in str(refused(Image(np.zeros((1, 1, 3)))))

    def test_bytes_of_another_shape(self) -> None:
        raw = struct.pack("<III", 4, 9, 60) + bytes(60)
        with pytest.raises(errors.DecodeError) as caught:
            Image.from_bytes(raw)
        assert caught.value.path == "Image.pixels"
        assert "expected shape (4, 9, 3), that is (height, width, 3), got (60,)" in str(caught.value)
        assert caught.value.offset == len(raw)

    def test_the_path_goes_into_lists(self) -> None:
        raw = codec(list[Image]).to_bytes([Image(image()), Image(image())])
        with pytest.raises(errors.DecodeError) as caught:
            codec(list[Image]).from_bytes(raw[:4] + raw[4:76] + struct.pack("<I", 5) + raw[80:])
        assert caught.value.path.endswith("[1].pixels")

    @pytest.mark.parametrize(
        ("first", "second"),
        [(-1, 0), (-1, 1), (0, 2**63), (0, 2**64 - 1), (2**63 - 1, 2**63), (1, 1), (2**32, 2**32)],
    )
    def test_numbers_that_no_array_has(self, first: int, second: int) -> None:
        """Negative, over what a product of lengths holds, and more items than there are."""
        with pytest.raises(errors.DecodeError, match="expected shape"):
            Numbers.from_bytes(struct.pack("<qQI", first, second, 0))

    def test_dimensions_of_no_items(self) -> None:
        for first, second in ((0, 0), (0, 7), (5, 0), (2**40, 0)):
            assert Numbers.from_bytes(struct.pack("<qQI", first, second, 0)).p.shape == (first, second)

    @pytest.mark.parametrize("size", range(0, 72, 7))
    def test_cut_short(self, size: int) -> None:
        with pytest.raises(errors.UnexpectedEof):
            Image.from_bytes(Image(image()).to_bytes()[:size])


class Numbers(Codec):
    a: i64
    b: u64
    p: Annotated[NDArray[np.uint8], Shape("a", "b")]


class TestDeclarations:
    def test_a_rank_is_no_shape(self) -> None:
        with pytest.raises(TypeError, match=r'NDArray\[np.uint8\], Shape\("height", "width", 3\)\]'):
            codec(np.ndarray[tuple[int, int, int], np.dtype[np.uint8]])
        with pytest.raises(TypeError, match="Shape"):
            codec(np.ndarray[tuple[Literal[4], int], np.dtype[np.uint8]])

    @pytest.mark.parametrize(
        ("annotation", "words"),
        [
            (Annotated[NDArray[np.uint8], Shape("missing")], "names 'missing', which is no field of Bad"),
            (Annotated[NDArray[np.uint8], Shape("real")], "names 'real', which is no integer field"),
            (Annotated[NDArray[np.uint8], Shape("maybe")], "names 'maybe', which is no integer field"),
            (tuple[Annotated[NDArray[np.uint8], Shape("n")], u8], "field of its own"),
            (Annotated[list[u8], Shape("n")], "that of a numpy array"),
            (Annotated[Pixels, Shape("n")], "besides another shape"),
        ],
    )
    def test_what_a_shape_cannot_say(self, annotation: Any, words: str) -> None:
        with pytest.raises(TypeError, match=words):
            type(Codec)(
                "Bad",
                (Codec,),
                {
                    "__module__": __name__,
                    "__annotations__": {
                        "n": u8, "real": f32, "maybe": u8 | None, "height": u8, "width": u8, "a": annotation,
                    },
                },
            )  # fmt: skip

    def test_names_need_a_struct(self) -> None:
        with pytest.raises(TypeError, match="must be a field of a Codec class"):
            codec(list[Annotated[NDArray[np.uint8], Shape("n")]])

    @pytest.mark.parametrize(
        "dimensions", [(), (1.5,), (True,), (None,), (-1,), (2**32,), ("a b",), ("class",)]
    )
    def test_what_is_no_dimension(self, dimensions: tuple[Any, ...]) -> None:
        with pytest.raises((TypeError, ValueError), match="Shape"):
            Shape(*dimensions)
        with pytest.raises(ValueError, match="32"):
            Shape(*range(33))

    def test_shapes_are_values(self) -> None:
        shape = Shape("height", np.int64(3))
        assert shape == Shape("height", 3) == pickle.loads(pickle.dumps(shape)) == copy.deepcopy(shape)
        assert hash(shape) == hash(Shape("height", 3))
        assert shape != Shape(3, "height")
        assert repr(shape) == "Shape('height', 3)"
        with pytest.raises(AttributeError):
            shape.dimensions = ()  # type: ignore[misc]


class TestSchema:
    def test_the_note_stands_behind_the_field_and_is_not_in_the_hash(self) -> None:
        schema = codec(Image).schema
        assert schema.text == (
            "deli 1\nroot Image\nstruct Image\n height u32\n width u32\n"
            " pixels bytes @shape(height,width,3)\n"
        )
        assert schema.hash == Schema.parse(schema.text.replace(" @shape(height,width,3)", "")).hash

    def test_a_loaded_schema_has_the_shapes(self) -> None:
        for cls, value in (
            (Image, Image(image())),
            (Scene, Scene([Image(image())], None, ())),
            (Behind, Behind(np.ones((3, 7), np.float32), 7, 3)),
            (Grid, Grid(np.zeros((3, 2), codec(Row).dtype), 3)),
            (Maybe, Maybe(1, None, [np.ones(1, np.bool_)], (np.zeros((2, 2), np.uint8),) * 2)),
        ):
            schema = Schema.parse(codec(cls).schema.text)
            made = codec(schema.load())
            assert made.schema.text == schema.text
            read = made.from_bytes(value.to_bytes())
            assert made.to_bytes(read) == value.to_bytes()
            assert (
                str(made.type.__annotations__).count("Shape") == schema.text.count("@shape") or cls is Scene
            )
        assert read.pair[1].shape == (2, 2)
        variant = Schema.parse(codec(Message).schema.text).types["Depth"]
        assert variant(1, None, np.zeros((5, 4), np.uint16)).to_bytes()[5:9] == bytes([5, 0, 0, 0])

    @pytest.mark.parametrize(
        "fields",
        [
            " p bytes @shape(height,3)\n",
            " height f32\n p bytes @shape(height,3)\n",
            " n u8 @nanoseconds\n p str @shape(n)\n",
            " n u8\n p bytes @shape(-1)\n",
            " n u8\n p bytes @shape\n",
            " n u8\n p (bytes,u8) @shape(n)\n",
            " n u8\n p [str] @shape(n)\n",
            " class u8\n p bytes @shape(class)\n",
            " n u8\n p bytes @shape(99999999999)\n",
        ],
    )
    def test_a_note_that_fits_nothing_is_kept_and_means_nothing(self, fields: str) -> None:
        text = f"deli 1\nroot A\nstruct A\n{fields}"
        assert codec(Schema.parse(text).load()).schema.text == text

    def test_in_a_key_there_are_no_arrays(self) -> None:
        text = "deli 1\nroot A\nstruct A @latest(k)\n n u8\n k K\nstruct K\n n u8\n p bytes @shape(n)\n"
        assert codec(Schema.parse(text).load()).schema.text == text


class TestReading:
    def test_a_reader_of_another_version_has_the_shape(self) -> None:
        """Fields in another order, of wider kinds, lists of them; one that the writer lacks."""

        class Wider(Codec):
            pixels: Annotated[NDArray[np.uint16], Shape("height", "width", 3)]
            width: u64
            height: u64
            mask: Annotated[NDArray[np.bool_], Shape("height", "width")] | None

        read = codec(Wider).reading(codec(Image).schema).from_bytes(Image(image()).to_bytes())
        assert read.pixels.shape == (4, 5, 3)
        assert read.pixels.dtype == np.uint16
        assert (read.pixels == image()).all()
        assert read.mask is None

    def test_a_reader_with_another_shape_is_told(self) -> None:
        class Grey(Codec):
            extra: u8 = 1
            height: u32 = field(default=None, kw_only=True)
            width: u32 = field(default=None, kw_only=True)
            pixels: Annotated[NDArray[np.uint8], Shape("height", "width")] = field(kw_only=True)

        reader = codec(Grey).reading(codec(Image).schema)
        with pytest.raises(errors.DecodeError, match=r"expected shape \(4, 5\), that is \(height, width\)"):
            reader.from_bytes(Image(image()).to_bytes())

    def test_a_writer_without_the_note_is_read_all_the_same(self) -> None:
        schema = Schema.parse(codec(Image).schema.text.replace(" @shape(height,width,3)", ""))
        assert codec(Image).reading(schema).from_bytes(Image(image()).to_bytes()).pixels.shape == (4, 5, 3)

    def test_a_dimension_that_nobody_sends_needs_a_number(self) -> None:
        class Deep(Codec):
            height: u32 = field(default=None, kw_only=True)
            width: u32 = field(default=None, kw_only=True)
            depth: u32 = field(default=None, kw_only=True)
            pixels: Annotated[NDArray[np.uint8], Shape("height", "width", "depth")]

        class Three(Codec):
            height: u32 = field(default=None, kw_only=True)
            width: u32 = field(default=None, kw_only=True)
            depth: u32 = field(default=3, kw_only=True)
            pixels: Annotated[NDArray[np.uint8], Shape("height", "width", "depth")]

        with pytest.raises(errors.SchemaMismatch, match="depth  u32, only here and without a default"):
            codec(Deep).reading(codec(Image).schema)
        reader = codec(Three).reading(codec(Image).schema)
        assert reader.from_bytes(Image(image()).to_bytes()).pixels.shape == (4, 5, 3)

    def test_a_root_that_is_no_class(self) -> None:
        tp = codec(list[Annotated[NDArray[np.float64], Shape(2, 2)]])
        reader = tp.reading(codec(list[list[f32]]).schema)
        (read,) = reader.from_bytes(codec(list[list[f32]]).to_bytes([[1.0, 2.0, 3.0, 4.0]]))
        assert read.tolist() == [[1.0, 2.0], [3.0, 4.0]]
