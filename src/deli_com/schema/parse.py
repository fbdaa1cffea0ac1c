"""Schema text to tree. A malformed text raises `ValueError`, which names the line. Nothing is evaluated.

A schema has exactly one text, byte for byte: rendering the tree gives the same text again. Definitions are in
the order in which a walk from the root meets them, and the walk meets each of them.
"""

from __future__ import annotations

import re

from deli_com.schema.measure import MAX_SIZE, depth_of, least_size, least_sizes
from deli_com.schema.tree import (
    SCALARS,
    Definition,
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
    Variant,
    refs,
    types_in,
)

__all__ = ["MAX_BYTES", "MAX_DEFINITIONS", "MAX_FIELDS", "MAX_FIXED", "MAX_NESTING", "parse_tree"]

MAX_BYTES = 256 * 1024  # of a text
MAX_DEFINITIONS = 4096
MAX_FIELDS = 65536  # all definitions together
MAX_NESTING = 200  # lists, options and the like around a name, in one expression
MAX_FIXED = 2**24  # items of ``[T;N]``, as for FixedArray
SHOWN = 60  # characters of a line that an error quotes

_NAME = "[A-Za-z_][A-Za-z0-9_]{0,127}"
_NUMBER = r"[+-]?[0-9]{1,32}(?:\.[0-9]{1,32})?(?:[eE][+-]?[0-9]{1,4})?"
_NOTES = rf"((?: @{_NAME}(?:\((?:{_NAME}|{_NUMBER})(?:,(?:{_NAME}|{_NUMBER}))*\))?)*)"
_INDEX = "(0|[1-9][0-9]{0,5})"
_ROOT = re.compile(r"root ([^ ]+)")
_DEFINITION = re.compile(rf"(struct|sealed|enum) ({_NAME}){_NOTES}")
_FIELD = re.compile(rf" {{1,2}}({_NAME}) ([^ ]+){_NOTES}")
_VARIANT = re.compile(rf" {_INDEX} ({_NAME}){_NOTES}")
_MEMBER = re.compile(rf" {_INDEX} ({_NAME})")
_NOTE = re.compile(r" @([^ (]+)(?:\(([^)]*)\))?")
_TOKEN = re.compile(rf"{_NAME}|[0-9]+|.", re.S)

_SCALARS: dict[str, Type] = {name: Scalar(name) for name in SCALARS}


def parse_tree(text: str) -> Tree:
    """Read one schema text.

    Raises
    ------
    ValueError
        The text is no schema, or exceeds a limit.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"a schema has at most {MAX_BYTES} bytes, this text has {len(text)} or more")
    if not text.isascii():
        raise ValueError("a schema has ASCII characters only")
    lines = text.split("\n")
    if lines.pop() != "":
        raise ValueError("a schema ends with a line feed")
    if not lines or lines[0] != "deli 1":
        raise ValueError(
            f"a schema begins with the line 'deli 1', this with {_shown(lines[0] if lines else '')}"
        )
    return _Reader(lines).read()


def _shown(line: str) -> str:
    return repr(line if len(line) <= SHOWN else line[:SHOWN] + "...")


class _Reader:
    # The state of parsing one text. `at` is the index of the next line.

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 1
        self.field_count = 0
        self.types: dict[str, Type] = {}

    def error(self, what: str, at: int | None = None) -> ValueError:
        number = self.at if at is None else at
        line = _shown(self.lines[number]) if number < len(self.lines) else "the end"
        return ValueError(f"no schema: {what} (line {number + 1}, {line})")

    def read(self) -> Tree:
        found = _ROOT.fullmatch(self.lines[1]) if len(self.lines) > 1 else None
        if found is None:
            raise self.error("the second line is 'root' and a type")
        root = self.type_of(found[1])
        self.at = 2
        definitions: dict[str, Definition] = {}
        starts: dict[str, int] = {}
        while self.at < len(self.lines):
            if len(definitions) == MAX_DEFINITIONS:
                raise self.error(f"more than {MAX_DEFINITIONS} definitions")
            start = self.at
            definition = self.definition()
            if definition.name in definitions:
                raise self.error(f"{definition.name} is defined twice", start)
            definitions[definition.name] = definition
            starts[definition.name] = start
        tree = Tree(root, tuple(definitions.values()))
        self.check_order(tree, definitions, starts)
        sizes = least_sizes(tree)
        for name, start in starts.items():
            if name not in sizes:
                raise self.error(
                    f"{name} holds itself without a list or option between: no value is finite", start
                )
            if sizes[name] > MAX_SIZE:
                raise self.error(f"{name} takes more than {MAX_SIZE} bytes", start)
        if least_size(root, sizes) > MAX_SIZE:
            raise self.error(f"the root takes more than {MAX_SIZE} bytes", 1)
        return tree

    def check_order(self, tree: Tree, definitions: dict[str, Definition], starts: dict[str, int]) -> None:
        # Definitions must be in the order in which a depth-first walk meets them, and the walk must meet all.
        order: list[str] = []
        met: set[str] = set()
        todo = [*refs(tree.root)][::-1]
        while todo:
            name = todo.pop()
            if name in met:
                continue
            if name not in definitions:
                raise ValueError(f"no schema: {name} is not defined")
            met.add(name)
            order.append(name)
            todo += [ref for tp in types_in(definitions[name]) for ref in refs(tp)][::-1]
        for name, wanted in zip(definitions, order, strict=False):
            if name != wanted:
                raise self.error(f"{wanted} must be defined before {name}", starts[name])
        for name in list(definitions)[len(order) :]:
            raise self.error(f"nothing refers to {name}", starts[name])

    def definition(self) -> Definition:
        found = _DEFINITION.fullmatch(self.lines[self.at])
        if found is None:
            raise self.error("expected 'struct', 'sealed' or 'enum' and a name")
        kind, name = found[1], self.name(found[2])
        if name in _SCALARS:
            raise self.error(f"{name} is not allowed as the name of a definition")
        if kind == "enum":
            if found[3]:
                raise self.error("an enum has no notes")
            self.at += 1
            return Enum(name, self.members())
        notes = _notes(found[3])
        self.at += 1
        if kind == "struct":
            return Struct(name, self.fields(" "), notes)
        return Sealed(name, self.variants(), notes)

    def fields(self, indent: str) -> tuple[Field, ...]:
        fields: dict[str, Field] = {}
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if not line.startswith(indent) or (line[len(indent) :][:1].isdigit() and indent == " "):
                break
            found = _FIELD.fullmatch(line)
            if found is None or line.startswith(indent + " "):
                raise self.error("expected a field: a name, a type and notes")
            name = self.name(found[1])
            if name in fields:
                raise self.error(f"the field {name} is declared twice")
            self.field_count += 1
            if self.field_count > MAX_FIELDS:
                raise self.error(f"more than {MAX_FIELDS} fields")
            fields[name] = Field(name, self.type_of(found[2]), _notes(found[3]))
            self.at += 1
        return tuple(fields.values())

    def variants(self) -> tuple[Variant, ...]:
        variants: dict[str, Variant] = {}
        while self.at < len(self.lines) and self.lines[self.at].startswith(" "):
            found = _VARIANT.fullmatch(self.lines[self.at])
            if found is None or int(found[1]) != len(variants):
                raise self.error(f"expected the variant {len(variants)}")
            name = self.name(found[2])
            if name in variants:
                raise self.error(f"the variant {name} is declared twice")
            self.at += 1
            variants[name] = Variant(name, self.fields("  "), _notes(found[3]))
        if not variants:
            raise self.error("a sealed type needs at least one variant")
        return tuple(variants.values())

    def members(self) -> tuple[str, ...]:
        members: dict[str, None] = {}
        while self.at < len(self.lines) and self.lines[self.at].startswith(" "):
            found = _MEMBER.fullmatch(self.lines[self.at])
            if found is None or int(found[1]) != len(members):
                raise self.error(f"expected the member {len(members)}")
            name = self.name(found[2])
            if name in members:
                raise self.error(f"the member {name} is declared twice")
            members[name] = None
            self.at += 1
        if not members:
            raise self.error("an enum needs at least one member")
        return tuple(members)

    def name(self, name: str) -> str:
        if name.startswith("__") and name.endswith("__"):
            raise self.error(f"{name} is not allowed as a name")
        return name

    def type_of(self, text: str) -> Type:
        found = self.types.get(text)
        if found is None:
            tokens = [token[0] for token in _TOKEN.finditer(text)][::-1]
            found = self._type(tokens, MAX_NESTING + 1)
            if tokens:
                raise self.error(f"{_shown(text)} is no type")
            if depth_of(found) > MAX_NESTING + 1:
                raise self.error(f"types are nested more than {MAX_NESTING} deep")
            self.types[text] = found
        return found

    def _type(self, tokens: list[str], room: int) -> Type:
        # Takes one type off the end of `tokens`, which are in reverse order.
        if room == 0:
            raise self.error(f"types are nested more than {MAX_NESTING} deep")
        token = tokens.pop() if tokens else ""
        made: Type
        if token == "[":
            made = self._list(tokens, room)
        elif token == "(":
            items: list[Type] = []
            if tokens and tokens[-1] == ")":
                tokens.pop()
            else:
                items.append(self._type(tokens, room - 1))
                while self._take(tokens, ",)") == ",":
                    items.append(self._type(tokens, room - 1))
            made = Product(tuple(items))
        elif token[:1].isalpha() or token[:1] == "_":
            made = _SCALARS.get(token) or Ref(self.name(token))
        else:
            raise self.error("expected a type")
        if tokens and tokens[-1] == "?":
            tokens.pop()
            made = Option(made)
            if tokens and tokens[-1] == "?":
                raise self.error("an option of an option is not allowed")
        return made

    def _list(self, tokens: list[str], room: int) -> Type:
        item = self._type(tokens, room - 1)
        if self._take(tokens, ";]") == "]":
            if item == _SCALARS["u8"]:
                raise self.error("[u8] must be written as bytes")
            return List(item)
        count = tokens.pop() if tokens else ""
        if (
            not count.isdigit()
            or (len(count) > 1 and count[0] == "0")
            or len(count) > 8
            or int(count) > MAX_FIXED
        ):
            raise self.error(f"a count is a number from 0 to {MAX_FIXED}")
        self._take(tokens, "]")
        return Fixed(item, int(count))

    def _take(self, tokens: list[str], wanted: str) -> str:
        token = tokens.pop() if tokens else ""
        if token not in wanted or not token:
            raise self.error("expected a type")
        return token


def _notes(text: str) -> tuple[Note, ...]:
    if not text:
        return ()
    return tuple(
        Note(found[1], tuple(found[2].split(",")) if found[2] else ()) for found in _NOTE.finditer(text)
    )
