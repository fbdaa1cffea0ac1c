"""Classes made at run time from a schema tree: structs, sealed types and enums.

Names of the schema become names of classes and attributes. Some names cannot: methods of every struct
(``decode``), names that Python mangles (``__x``), and names reserved by enums (``mro``). These get a
trailing ``_``. The schema of such a class still holds the original names.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator
from typing import Any, Optional

from deli_com.coding.codec_class import RESERVED, Codec, CodecMeta
from deli_com.coding.registry import codec
from deli_com.schema.meaning import Meaning, Meanings
from deli_com.schema.measure import too_deep, too_large
from deli_com.schema.text import WIRE_NAMES
from deli_com.schema.tree import (
    Enum,
    Field,
    Fixed,
    List,
    Note,
    Option,
    Product,
    Ref,
    Scalar,
    Sealed,
    Struct,
    Tree,
    Type,
    find_note,
    refs,
    types_in,
)
from deli_com.types import kinds
from deli_com.types.annotations import Later
from deli_com.types.delivery import POLICIES
from deli_com.types.instance import record_spec

__all__ = ["load"]

MODULE = "deli_com.schema.loaded"  # `__module__` of the classes

_SCALARS: dict[str, Any] = {kind.name: getattr(kinds, kind.name) for kind in kinds.KINDS}
_SCALARS |= {"bool": bool, "str": str, "bytes": bytes}
_ENUM_NAMES = frozenset({"mro", "name", "value"})


def load(found: Tree) -> tuple[Any, dict[str, Any]]:
    """Make the root type and its classes, by name: definitions, and variants whose name no definition has.

    Raises
    ------
    ValueError
        No classes can be made: a field cannot be part of a key, the notes of delivery contradict each other,
        values would be nested too deep, or the programs would be too long.
    """
    why = too_deep(found) or too_large(found)
    if why is not None:
        raise ValueError(f"no classes can be made of this schema: {why}")
    loader = _Loader(found)
    try:
        for definition in _inner_first(found):
            loader.make(definition)
        loader.replace_deferred()
        root = loader.annotation(found.root, False)
        codec(root)
    except TypeError as error:
        raise ValueError(f"no classes can be made of this schema: {error}") from error
    return root, loader.variants | loader.classes


def _inner_first(found: Tree) -> Iterator[Struct | Sealed | Enum]:
    # A definition comes after those that it refers to, except where types are recursive.
    by_name = found.by_name
    met: set[str] = set()
    todo = [(name, False) for name in refs(found.root)][::-1]
    while todo:
        name, complete = todo.pop()
        if complete:
            yield by_name[name]
        elif name not in met:
            met.add(name)
            todo.append((name, True))
            todo += [(ref, False) for tp in types_in(by_name[name]) for ref in refs(tp)][::-1]


class _Loader:
    def __init__(self, found: Tree) -> None:
        self.tree = found
        self.by_name = found.by_name
        self.classes: dict[str, Any] = {}
        self.variants: dict[str, Any] = {}
        self.frozen = self._in_keys()
        self.meanings = Meanings(self.by_name)

    def _in_keys(self) -> set[str]:
        # The structs that are part of keys. They are frozen, and hold tuples in place of lists.
        found: set[str] = set()
        todo: list[Type] = []
        for definition in self.tree.definitions:
            if isinstance(definition, Enum):
                continue
            parts = definition.variants if isinstance(definition, Sealed) else (definition,)
            for part in parts:
                key = _key(part.notes) | (_key(definition.notes) if part is not definition else frozenset())
                todo += [field.type for field in part.fields if field.name in key]
        while todo:
            for name in refs(todo.pop()):
                definition = self.by_name[name]
                if isinstance(definition, Struct) and name not in found:
                    found.add(name)
                    todo += types_in(definition)
        return found

    def make(self, definition: Struct | Sealed | Enum) -> None:
        if isinstance(definition, Enum):
            self.classes[definition.name] = _make_enum(definition)
            return
        if isinstance(definition, Struct):
            frozen = definition.name in self.frozen
            self.classes[definition.name] = self._make_class(
                definition.name, Codec, definition.fields, definition.notes, frozen=frozen
            )
            return
        shared = _shared(definition)
        base = self._make_class(
            definition.name, Codec, definition.variants[0].fields[:shared], definition.notes, sealed=True
        )
        self.classes[definition.name] = base
        for variant in definition.variants:
            inherited = _key(definition.notes)
            made = self._make_class(
                variant.name, base, variant.fields[shared:], variant.notes, all_fields=variant.fields,
                inherited=inherited,
            )  # fmt: skip
            self.variants.setdefault(variant.name, made)

    def _make_class(
        self,
        name: str,
        base: Any,
        fields: tuple[Field, ...],
        notes: tuple[Note, ...],
        *,
        all_fields: tuple[Field, ...] = (),
        inherited: Collection[str] = (),
        frozen: bool = False,
        sealed: bool = False,
    ) -> Any:
        attributes = _attributes(field.name for field in all_fields or fields)
        key = _key(notes) or inherited
        by_field = {field.name: field for field in all_fields or fields}
        annotations = {
            attributes[field.name]: Later(
                self._builder(field, by_field, attributes, frozen or field.name in key)
            )
            for field in fields
        }
        namespace = {"__module__": MODULE, "__qualname__": name, "__annotations__": annotations}
        options: dict[str, Any] = _delivery(name, notes, attributes)
        if frozen or sealed:
            options |= {"frozen": frozen, "sealed": sealed}
        made: Any = CodecMeta(name, (base,), namespace, **options)
        spec = record_spec(made)
        spec.notes = notes
        for field, declared in zip(fields, spec.fields[len(spec.fields) - len(fields) :], strict=True):
            declared.wire_name = field.name
            declared.notes = field.notes
        return made

    def _builder(
        self, field: Field, fields: dict[str, Field], attributes: dict[str, str], in_key: bool
    ) -> Callable[[], Any]:
        meant = self.meanings.of(field, fields, attributes, in_key) if field.notes else None
        return lambda: self.annotation(field.type, in_key, meant)

    def annotation(self, tp: Type, in_key: bool, meant: Meaning | None = None) -> Any:
        """The annotation of a type. Raises `NameError` while a class that it names is not made yet.

        `meant` is what a note says of a type in it.
        """
        if meant is not None and tp is meant[0]:
            item = tp.item if isinstance(tp, List) else None
            if isinstance(item, Ref):
                return meant[1](self.annotation(item, in_key))
            return meant[1](None)
        match tp:
            case Scalar(name):
                return _SCALARS[name]
            case Ref(name):
                if name not in self.classes:
                    raise NameError(name)
                return self.classes[name]
            case List(item):
                inner = self.annotation(item, in_key, meant)
                return tuple[inner, ...] if in_key else list[inner]  # type: ignore[valid-type]
            case Fixed(item, count):
                return kinds.FixedArray[self.annotation(item, in_key, meant), count]  # type: ignore[misc]
            case Option(item):
                return Optional[self.annotation(item, in_key, meant)]
            case Product(items):
                return tuple[tuple(self.annotation(item, in_key, meant) for item in items)]  # type: ignore[misc]

    def replace_deferred(self) -> None:
        """Replace the deferred annotations, in the places where people and dataclasses look for them."""
        for cls in [*self.classes.values(), *self.variants.values()]:
            if isinstance(cls, enum.EnumMeta):
                continue
            own = vars(cls)["__annotations__"]
            for field in record_spec(cls).fields:
                if isinstance(field.annotation, Later):
                    field.annotation = field.annotation.build()
                cls.__dataclass_fields__[field.name].type = field.annotation
                if field.name in own:
                    own[field.name] = field.annotation


def _key(notes: tuple[Note, ...]) -> frozenset[str]:
    note = find_note(notes, "latest")
    return frozenset(note.args if note else ())


def _shared(definition: Sealed) -> int:
    # How many leading fields the sealed class itself declares: up to the last field of its key.
    key = _key(definition.notes)
    if not key:
        return 0
    first, *others = definition.variants
    names = [field.name for field in first.fields]
    if not key <= set(names):
        raise ValueError(f"{definition.name}: its key has fields that {first.name} lacks")
    count = 1 + max(names.index(name) for name in key)
    for variant in others:
        if variant.fields[:count] != first.fields[:count]:
            raise ValueError(f"{definition.name}: {variant.name} does not begin with the fields of its key")
    return count


def _delivery(name: str, notes: tuple[Note, ...], attributes: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    age = find_note(notes, "max_age")
    if age is not None:
        options["max_age"] = _seconds(name, age)
    policies = [note for note in notes if note.word in POLICIES]
    retain = find_note(notes, "retain")
    if not policies:
        if retain:
            raise ValueError(f"{name}: @retain is valid with @latest only")
        return options
    policy = policies[0]
    if len(policies) > 1:
        raise ValueError(f"{name}: @{policy.word} and @{policies[1].word} are two policies")
    if policy.word != "latest":
        if policy.args or retain:
            raise ValueError(f"{name}: a key and @retain are valid with @latest only")
        return options | {"policy": policy.word}
    if retain and retain.args:
        raise ValueError(f"{name}: @retain takes no arguments")
    key = tuple(attributes.get(word, word) for word in policy.args)
    return options | {"policy": "latest", "key": key, "retain": retain is not None}


def _seconds(name: str, note: Note) -> float:
    try:
        (text,) = note.args
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: @max_age has one number of seconds") from None


def _attributes(names: Iterator[str]) -> dict[str, str]:
    # The attribute name for each field name of one class.
    found: dict[str, str] = {}
    taken: set[str] = set()
    names_of_text = list(names)
    for name in names_of_text:
        attribute = name
        if name in RESERVED or name.startswith("__"):
            attribute = _other(name, {*taken, *names_of_text})
        taken.add(attribute)
        found[name] = attribute
    return found


def _other(name: str, taken: Collection[str]) -> str:
    attribute = name.strip("_") + "_"
    if not attribute[0].isalpha():
        attribute = f"x{attribute}"
    while attribute in taken:
        attribute += "_"
    return attribute


def _make_enum(definition: Enum) -> Any:
    names: list[str] = []
    for name in definition.members:
        awkward = name in _ENUM_NAMES or name.startswith("_")
        names.append(_other(name, {*names, *definition.members}) if awkward else name)
    members = [(name, i) for i, name in enumerate(names)]
    make: Any = enum.Enum  # to a type checker a call of Enum itself would declare a class
    made = make(definition.name, members, module=MODULE)
    if tuple(names) != definition.members:
        setattr(made, WIRE_NAMES, definition.members)
    return made
