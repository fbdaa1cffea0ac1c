"""Schemas to Python: the classes that a program would declare with deli-com."""

from __future__ import annotations

import keyword
import re

from deli_com.gen.plan import Names, Plan, summary
from deli_com.schema.schema import Schema
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
    Type,
    find_note,
)

__all__ = ["Python", "python"]

_BUILT_IN = {"bool", "str", "bytes"}
_POLICIES = ("reliable", "skip", "latest")


def python(schema: Schema, up: Schema | None = None) -> str:
    """Write a schema as Python: a module whose classes have that schema.

    Parameters
    ----------
    schema : Schema
        Schema of the values that the server sends.
    up : Schema, optional
        Schema of the values that clients send.

    Raises
    ------
    ValueError
        A name is used in both schemas for different types, or is not allowed in Python. A field called
        ``class`` would need another name, which would give another schema.
    """
    return Python(Plan.of(schema, up)).file()


class Python:
    """The generator of one module."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.used: set[str] = {"Codec"}
        taken = Names(())
        for each in plan.definitions:
            taken.reserve(each.name)
            self.check(each.name, each.name)
        self.roots = {name: taken.reserve(name) for name, _ in plan.roots()}

    def check(self, name: str, where: str) -> None:
        # Names are part of the hash, so a name that Python does not allow cannot be renamed.
        reserved = name in {"to_bytes", "encode", "from_bytes", "decode", "mro"} or name.startswith("__")
        if keyword.iskeyword(name) or reserved or name in _IMPORTED:
            raise ValueError(
                f"{where}: the name {name!r} is not allowed in a Python module; Schema.load() can load it"
            )

    def file(self, whole: bool = True) -> str:
        """The text of the module. If `whole` is false, it has no root, which then only names all types."""
        body = [self.declaration(each) for each in self.plan.inner_first()]
        if whole:
            body += [f"{self.roots[name]} = {self.type_of(tp)}\n" for name, tp in self.plan.roots()]
        words = summary(self.plan.schema) if whole else "types of a Rust file"
        head = f'"""{words}: made by deli-com gen. Do not edit."""\n\n'
        head += "from __future__ import annotations\n\n"
        if any(isinstance(each, Enum) for each in self.plan.definitions):
            head += "import enum\n"
        if "Literal" in self.used:
            head += "from typing import Literal\n"
            self.used.discard("Literal")
        head = (
            head.rstrip("\n")
            + "\n\n"
            + f"from deli_com import {', '.join(sorted(self.used, key=_order))}\n\n"
        )
        for prefix, each in (("", self.plan.schema), ("UP_", self.plan.up)):
            if each is not None and whole:
                head += f'{prefix}SCHEMA_HASH = "{each.hash}"\n{prefix}SCHEMA_TEXT = """\\\n{each.text}"""\n'
        return head.rstrip("\n") + "\n\n\n" + "\n\n".join(body)

    def declaration(self, each: Struct | Sealed | Enum) -> str:
        if isinstance(each, Enum):
            lines = []
            for i, member in enumerate(each.members):
                self.check(member, f"{each.name}.{member}")
                if member.startswith("_") or member in ("name", "value"):
                    raise ValueError(f"{each.name}.{member}: not allowed as the name of an enum member")
                lines.append(f"    {member} = {i}\n")
            return f"class {each.name}(enum.Enum):\n{self.doc(each.name)}{''.join(lines)}"
        if isinstance(each, Struct):
            return self.cls(each.name, f"Codec{self.delivery(each.notes)}", each.fields)
        found = [self.cls(each.name, f"Codec, sealed=True{self.delivery(each.notes)}", ())]
        if find_note(each.notes, "latest") is not None:
            raise ValueError(f"{each.name}: a key of the sealed class itself cannot be written in Python yet")
        names = {definition.name for definition in self.plan.definitions}
        for variant in each.variants:
            self.check(variant.name, variant.name)
            if variant.name in names:
                raise ValueError(f"{each.name}.{variant.name}: another class has this name")
            names.add(variant.name)
            found.append(self.cls(variant.name, f"{each.name}{self.delivery(variant.notes)}", variant.fields))
        return "\n\n".join(found)

    def cls(self, name: str, bases: str, fields: tuple[Field, ...]) -> str:
        lines = []
        for each in fields:
            self.check(each.name, f"{name}.{each.name}")
            lines.append(f"    {each.name}: {self.type_of(each.type)}\n")
        doc = self.doc(name)
        if not lines:
            lines = [] if doc else ["    pass\n"]
            doc = doc.removesuffix("\n")
        return f"class {name}({bases}):\n{doc}{''.join(lines)}"

    def doc(self, name: str) -> str:
        text = self.plan.docs.get(name, "").replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        if not text:
            return ""
        lines = text.splitlines()
        if len(lines) == 1:
            return f'    """{lines[0]}"""\n\n'
        rest = "".join(f"    {line}".rstrip() + "\n" for line in lines[1:])
        return f'    """{lines[0]}\n{rest}    """\n\n'

    def delivery(self, notes: tuple[Note, ...]) -> str:
        text = ""
        for word in _POLICIES:
            note = find_note(notes, word)
            if note is not None:
                text += f', policy="{word}"'
                if note.args:
                    names = ", ".join(f'"{each}"' for each in note.args)
                    text += f", key=({names},)" if len(note.args) == 1 else f", key=({names})"
        if find_note(notes, "retain") is not None:
            text += ", retain=True"
        age = find_note(notes, "max_age")
        return text if age is None or len(age.args) != 1 else f"{text}, max_age={age.args[0]}"

    def type_of(self, tp: Type) -> str:
        match tp:
            case Scalar(name):
                if name not in _BUILT_IN:
                    self.used.add(name)
                return name
            case Ref(name):
                return name
            case List(item):
                return f"list[{self.type_of(item)}]"
            case Option(item):
                return f"{self.type_of(item)} | None"
            case Fixed(item, count):
                self.used |= {"FixedArray", "Literal"}
                return f"FixedArray[{self.type_of(item)}, Literal[{count}]]"
            case Product(items):
                return f"tuple[{', '.join(map(self.type_of, items)) or '()'}]"


_IMPORTED = {
    *("Codec", "FixedArray", "Literal", "enum", "annotations", "SCHEMA_HASH", "SCHEMA_TEXT"),
    *("UP_SCHEMA_HASH", "UP_SCHEMA_TEXT", "list", "tuple", "None"),
    *(f"{letter}{bits}" for letter in "ui" for bits in (8, 16, 32, 64)),
    *("f32", "f64", "bool", "str", "bytes"),
}


def _order(name: str) -> tuple[bool, str, int]:
    # The order of isort: classes first, then numbers by their size.
    found = re.fullmatch(r"([a-z]+)(\d+)", name)
    return (name[0].islower(), found[1] if found else name, int(found[2]) if found else 0)
