"""`Schema`: the description of a type as text, and the hash of that text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import deli_com.schema  # its `tree` is imported only when a type hint is resolved
from deli_com.types.nodes import Node

__all__ = ["Schema"]


class Schema:
    """The wire layout of a type, with its names: a text, and the hash of that text.

    ``codec(T).schema`` is the schema of a type; `parse` reads one from text. Two schemas are equal if their
    hashes are equal. Notes (how values are delivered) are not part of the hash; names of fields, variants and
    types are. `str` gives the text.

    Examples
    --------
    >>> from deli_com import Codec, codec, f32
    >>> class Point(Codec):
    ...     x: f32
    ...     y: f32
    >>> print(codec(Point).schema, end="")
    deli 1
    root Point
    struct Point
     x f32
     y f32
    """

    __slots__ = ("__weakref__", "_hash", "_loaded", "_text", "_tree", "_types")

    _hash: str | None
    _loaded: Any
    _text: str
    _tree: deli_com.schema.tree.Tree
    _types: Mapping[str, Any] | None

    def __init__(self) -> None:
        raise TypeError("Schema: take codec(T).schema, or Schema.parse(text)")

    @classmethod
    def parse(cls, text: str) -> Schema:
        """Read a schema text.

        Parameters
        ----------
        text : str
            At most 256 KiB, 4,096 definitions, 65,536 fields, and 200 nested types in one expression.
            Nothing in it is evaluated.

        Raises
        ------
        ValueError
            The text is no schema, or exceeds a limit. The error names the line.
        """
        from deli_com.schema.parse import parse_tree

        if not isinstance(text, str):
            raise TypeError(f"a schema is text, got {type(text).__qualname__}")
        return cls._make(text, parse_tree(text))

    @classmethod
    def _of(cls, node: Node, type: Any) -> Schema:
        # The schema of a type whose node has been checked.
        from deli_com.schema.text import render, tree_of

        tree, types = tree_of(node)
        made = cls._make(render(tree), tree)
        made._types = types
        made._loaded = type
        return made

    @classmethod
    def _make(cls, text: str, tree: deli_com.schema.tree.Tree) -> Schema:
        self = object.__new__(cls)
        self._text = text
        self._tree = tree
        self._hash = self._loaded = self._types = None
        return self

    @property
    def text(self) -> str:
        """The text: each line ends with a line feed. docs/wire.md section 9 has its grammar."""
        return self._text

    @property
    def hash(self) -> str:
        """32 lower-case hexadecimal digits: the hash of the text without notes, computed on first use."""
        if self._hash is None:
            from deli_com.schema.text import without_notes

            self._hash = hashlib.sha256(without_notes(self._text).encode("ascii")).hexdigest()[:32]
        return self._hash

    @property
    def tree(self) -> deli_com.schema.tree.Tree:
        """The schema as an immutable tree, for programs that walk it (`deli_com.schema.tree`)."""
        return self._tree

    @property
    def name(self) -> str:
        """The name of the type: the text of the root."""
        return str(self._tree.root)

    @property
    def types(self) -> Mapping[str, Any]:
        """The classes by name: definitions, and variants whose name no definition has.

        For ``codec(T).schema``, these are the program's own classes. Otherwise `load` makes them at run time.

        Raises
        ------
        ValueError
            No classes can be made from the text.
        """
        if self._types is None:
            self.load()
        assert self._types is not None
        return self._types

    def load(self) -> Any:
        """Make the root as a type that `codec`, servers and clients take.

        Structs, sealed types and enums become classes made at run time; lists become ``list``. Each call
        returns the same object. For ``codec(T).schema`` it is ``T``.

        Raises
        ------
        ValueError
            No classes can be made from the text: for example an invalid key, or values nested too deep.
        """
        if self._loaded is None:
            from deli_com.schema.load import load

            self._loaded, self._types = load(self._tree)
        return self._loaded

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schema):
            return NotImplemented
        return self is other or self._text == other._text or self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        name = self.name
        return f"<Schema {name if len(name) <= 80 else name[:77] + '...'} {self.hash}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Schema.parse, (self._text,)
