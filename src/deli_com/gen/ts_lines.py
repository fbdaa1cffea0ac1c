"""Lines of TypeScript as prettier breaks them, and the marks of what is TypeScript only.

Text between the brackets ⟦ and ⟧ stands in TypeScript and not in JavaScript.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "WIDTH",
    "block",
    "broken",
    "call",
    "constant_array",
    "folded",
    "typed",
    "union",
    "unmarked",
    "untyped",
    "unused",
]

WIDTH = 80  # line width of prettier
_TYPE = re.compile("⟦([^⟧]*)⟧")


def unmarked(text: str) -> str:
    """Return the text as TypeScript: without the marks."""
    return _TYPE.sub(r"\1", text)


def untyped(text: str) -> str:
    """Return the text as JavaScript: without what is marked."""
    # Lines that hold only types go, then types within lines, then what they leave behind.
    text = re.sub(r"(?m)^ *⟦[^⟧]*⟧\n", "", text)
    text = re.sub(r"\n{3,}", "\n\n", _TYPE.sub("", text))
    return re.sub(r"(?m)^( *)([^\n]*\()\n((?: +\w+(?: = \w+)?,\n)+) *\) \{$", _joined, text)


def _joined(found: re.Match[str]) -> str:
    # The head of a function whose parameters fit a line without their types.
    names = ", ".join(line.strip().rstrip(",") for line in found[3].splitlines())
    line = f"{found[1]}{found[2]}{names}) {{"
    return line if len(line) <= WIDTH else found[0]


def typed(text: str) -> str:
    """Mark text that exists in TypeScript only."""
    return f"⟦{text}⟧"


def call(indent: str, function: str, *arguments: str) -> str:
    """Write a call as a statement, broken over lines if it is too long."""
    line = f"{indent}{function}({', '.join(arguments)});\n"
    if len(line) <= WIDTH + 1:
        return line
    return f"{indent}{function}(\n" + "".join(f"{indent}  {one},\n" for one in arguments) + f"{indent});\n"


def broken(head: str, text: str, end: str) -> str:
    """Write an expression in one line, or broken over lines: arrays, options, and lists of arrays."""
    if len(head) + len(text) + len(end) <= WIDTH and not _is_matrix(text):
        return f"{head}{text}{end}\n"
    indent = " " * (len(head) - len(head.lstrip()))
    if text.startswith("r.bool() ? ") and text.endswith(" : null"):
        return f"{head}r.bool()\n" + broken(f"{indent}  ? ", text[11:-7], "") + f"{indent}  : null{end}\n"
    opening = re.match(r"(r\.\w+\([\d, ]+\(r\) => )?\[", text)
    if opening is None:
        arrow = re.match(r"(r\.\w+\([\d, ]+\(r\) =>) (.*)\)$", text)
        if arrow is None:
            return f"{head}{text}{end}\n"
        body = arrow[2][1:-1] if arrow[2].startswith("(") else arrow[2]
        return f"{head}{arrow[1]}\n" + broken(f"{indent}  ", body, ",") + f"{indent}){end}\n"
    start, last = opening[0], "])" if opening[1] else "]"
    items = _split(text[len(start) : -len(last)])
    return (
        f"{head}{start}\n"
        + "".join(broken(f"{indent}  ", item, ",") for item in items)
        + f"{indent}{last}{end}\n"
    )


def _is_matrix(text: str) -> bool:
    # Whether it is an array of several arrays of several elements: prettier gives each a line.
    items = _split(text[1:-1]) if text.startswith("[") and text.endswith("]") else []
    return len(items) > 1 and all(each.startswith("[") and len(_split(each[1:-1])) > 1 for each in items)


def _split(text: str) -> list[str]:
    # The elements of a list, at the commas outside of brackets.
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def folded(words: Iterable[str], width: int) -> list[str]:
    """Wrap words into lines."""
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def block(body: str) -> str:
    """Put the body of a block on lines of its own."""
    return f"\n{body}" if body else ""


def unused(head: str) -> str:
    """Mark all parameters of a function head as unused."""
    return re.sub(r"([(,] ?)(\w+)⟦", r"\1_\2⟦", head)


def union(items: list[str], head: str) -> str:
    """Write a union of types."""
    line = f"{head} = {' | '.join(items)};"
    if len(line) <= WIDTH:
        return line
    return f"{head} =\n" + "\n".join(f"  | {item}" for item in items) + ";"


def constant_array(items: list[str], head: str) -> str:
    """Write an array of literals."""
    line = f"{head} = [{', '.join(items)}]{typed(' as const')};"
    if len(unmarked(line)) <= WIDTH:
        return line
    return f"{head} = [\n" + "".join(f"  {item},\n" for item in items) + f"]{typed(' as const')};"
