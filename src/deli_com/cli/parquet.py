"""`write_tables`: the values of a recording as Parquet files, one for each class."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deli_com import Codec
from deli_com.cli.values import plain, type_name
from deli_com.coding.registry import codec
from deli_com.schema.schema import Schema
from deli_com.schema.tree import (
    INTEGERS,
    Enum,
    Fixed,
    List,
    Option,
    Product,
    Ref,
    Scalar,
    Sealed,
    Struct,
    Tree,
    Type,
    Variant,
)
from deli_com.types.instance import record_spec

__all__ = ["write_tables"]

ROWS = 10_000  # rows that are held in memory before they are written

# The function of pyarrow that makes the type of a scalar.
ARROW = {
    **{name: name.replace("i", "int").replace("u", "uint") for name in INTEGERS},
    "f32": "float32",
    "f64": "float64",
    "bool": "bool_",
    "str": "string",
    "bytes": "binary",
}

Getter = Callable[[Any], Any]  # gets the part of a value that a column holds
Column = tuple[str, Any, Getter]  # name, Arrow type, getter of the cells


def json_cell(value: Any) -> str | None:
    """A cell of a type that Parquet lacks: a recursive type, or a sealed type inside another."""
    return None if value is None else json.dumps(plain(value), ensure_ascii=False)


def same(value: Any) -> Any:
    return value


class Layout:
    """Arrow types for the types of one schema.

    Parameters
    ----------
    tree : Tree
        The schema.
    """

    def __init__(self, tree: Tree) -> None:
        import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]

        self._arrow = pyarrow
        self._root = tree.root
        self._by_name = tree.by_name
        self._open: list[str] = []  # the enclosing structs

    def columns(self, name: str) -> list[Column]:
        """The columns of a value: fields of structs in structs are called ``outer.inner``.

        Parameters
        ----------
        name : str
            Name of its class: of the root, or of a variant if the root is sealed.
        """
        found: list[Column] = [("time", self._arrow.timestamp("ns", "UTC"), same)]
        root = self._root
        top: Any = self._by_name.get(root.name) if isinstance(root, Ref) else None
        if isinstance(top, Sealed):
            top = next((variant for variant in top.variants if variant.name == name), None)
        if not isinstance(top, Struct | Variant):
            found += [("value", *self._form(root))]
        elif top.fields:
            found += self._columns_of(top, "", same)
        else:  # Parquet has no empty struct
            found += [("value", self._arrow.string(), json_cell)]
        return found

    def _columns_of(self, struct: Struct | Variant, prefix: str, get: Getter) -> list[Column]:
        found: list[Column] = []
        self._open.append(struct.name)
        for inner in struct.fields:
            name, part = prefix + inner.name, after(get, attribute(inner.name))
            definition = self._by_name.get(inner.type.name) if isinstance(inner.type, Ref) else None
            if isinstance(definition, Struct) and definition.fields and definition.name not in self._open:
                found += self._columns_of(definition, f"{name}.", part)
            else:
                type_, convert = self._form(inner.type)
                found.append((name, type_, after(part, convert)))
        self._open.pop()
        return found

    def _form(self, type_: Type) -> tuple[Any, Getter]:
        # The Arrow type of a type, and the function that converts a value.
        arrow = self._arrow
        if isinstance(type_, Scalar):
            return getattr(arrow, ARROW[type_.name])(), bytes if type_.name == "bytes" else same
        if isinstance(type_, Option):
            inner, convert = self._form(type_.item)
            return inner, lambda value: None if value is None else convert(value)
        if isinstance(type_, List | Fixed):
            inner, convert = self._form(type_.item)
            return arrow.list_(inner), each(convert)
        if isinstance(type_, Product):
            forms = [self._form(item) for item in type_.items]
            made = arrow.struct([(str(number), form[0]) for number, form in enumerate(forms)])
            return made, lambda value: {
                str(number): form[1](item)
                for number, (form, item) in enumerate(zip(forms, value, strict=True))
            }
        definition = self._by_name[type_.name]
        if isinstance(definition, Enum):
            return arrow.string(), member_name
        if isinstance(definition, Sealed) or not definition.fields or definition.name in self._open:
            return arrow.string(), json_cell
        self._open.append(definition.name)
        fields = [(inner.name, *self._form(inner.type)) for inner in definition.fields]
        self._open.pop()
        made = arrow.struct([(name, form) for name, form, _ in fields])
        return made, lambda value: {name: convert(getattr(value, name)) for name, _, convert in fields}


def attribute(name: str) -> Getter:
    return lambda value: getattr(value, name)


def after(first: Getter, second: Getter) -> Getter:
    if first is same:
        return second
    return first if second is same else lambda value: second(first(value))


def each(convert: Getter) -> Getter:
    if convert is same:
        return list
    return lambda values: [convert(value) for value in values]


def member_name(value: Any) -> str:
    return str(value.name)


@dataclass
class Table:
    """One file while it is written."""

    path: Path
    columns: list[Column]
    schema: Any
    writer: Any
    times: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    rows: int = 0

    def flush(self) -> None:
        """Write the rows held in memory."""
        import pyarrow

        cells = [self.times, *([get(value) for value in self.values] for _, _, get in self.columns[1:])]
        arrays = [pyarrow.array(held, type_) for held, (_, type_, _) in zip(cells, self.columns, strict=True)]
        self.writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self.schema))
        self.rows += len(self.values)
        self.times.clear()
        self.values.clear()


def tree_of(value: Any, schemas: Iterable[Schema]) -> Tree:
    """The schema of a value of a recording.

    Parameters
    ----------
    value : object
    schemas : iterable of Schema
        The schemas of the file: values that are not of a class are found there.
    """
    cls: Any = type(value)
    if isinstance(value, Codec):
        return codec(record_spec(cls).variant_of or cls).schema.tree
    if isinstance(value, enum.Enum):
        return codec(cls).schema.tree
    return next(schema.tree for schema in schemas if not isinstance(schema.tree.root, Ref))


def write_tables(values: Iterable[tuple[int, Any]], schemas: Iterable[Schema], folder: Path) -> list[Table]:
    """Write a file ``CLASS.parquet`` for each class.

    Parameters
    ----------
    values : iterable of (int, object)
        Nanoseconds since the epoch, and a value.
    schemas : iterable of Schema
        The schemas of the file.
    folder : Path
        Made if it does not exist.

    Returns
    -------
    list of Table
    """
    import pyarrow
    import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]

    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[type, Table] = {}
    names: set[str] = set()
    try:
        for at, value in values:
            table = tables.get(type(value))
            if table is None:
                columns = Layout(tree_of(value, schemas)).columns(type_name(value))
                name, number = type_name(value), 2
                while name in names:  # the classes of both directions may have one name
                    name, number = f"{type_name(value)}_{number}", number + 1
                names.add(name)
                path = folder / f"{name}.parquet"
                schema = pyarrow.schema([(column, form) for column, form, _ in columns])
                writer = pyarrow.parquet.ParquetWriter(path, schema)
                table = tables[type(value)] = Table(path, columns, schema, writer)
            table.times.append(at)
            table.values.append(value)
            if len(table.values) == ROWS:
                table.flush()
        for table in tables.values():
            table.flush()
    finally:
        for table in tables.values():
            table.writer.close()
    return [*tables.values()]
