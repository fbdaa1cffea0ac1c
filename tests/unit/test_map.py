"""CONTRIBUTING's map names every module. Its class tree and its drawing are those of the files."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]
PACKAGE = HERE / "src" / "deli_com"
SUFFIXES = (".py", ".pyx", ".pxd", ".h")
ROW = re.compile(r"^\| (?:root|`([\w/]+)/`) \| ([^|]+) \|", re.M)
BODY = re.compile(r"^cdef (?:class|struct) (\w+)(?:\((\w+)\))?:\n((?:(?:    .*)?\n)+)", re.M)
CLASS = re.compile(r"^(?:cdef )?class (\w+)\(([^)]*)\)", re.M)


def on_the_map(text: str) -> set[str]:
    """Modules that the map names, as folder/name."""
    return {
        f"{folder}/{name}" if folder else name
        for folder, names in ROW.findall(text)
        for name in re.findall(r"`([\w-]+)`", names)
    }


def in_the_files() -> set[str]:
    paths = [
        path for path in PACKAGE.rglob("*") if path.suffix in SUFFIXES and "__pycache__" not in path.parts
    ]
    compiled = {path.with_suffix("") for path in paths if path.suffix == ".pyx"}
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for path in paths
        if path.name != "__init__.py" or path.parent == PACKAGE
        if not (path.suffix == ".h" and path.with_suffix("") in compiled)
    }


def drawn(text: str) -> set[tuple[str, str]]:
    """(child, parent) of `A < B < C, D`; a line that begins with `<` continues the line above."""
    pairs = set()
    above: list[tuple[int, str]] = []
    for line in re.findall(r"^[^\n]* < [^\n]*$", text, re.M):
        start = re.match(r"[A-Z][a-z]+ [a-z ]+?\s{2,}", line)
        words = [
            (m.start(), m[0]) for m in re.finditer(r"[A-Z]\w+", line) if not start or m.start() >= start.end()
        ]
        parent = next((word for at, word in reversed(above) if at < words[0][0]), None) if not start else None
        separators = [line[a + len(w) : b].strip() for (a, w), (b, _) in pairwise(words)]
        chain = [word for _, word in words]
        for number, child in enumerate(chain):
            if number and separators[number - 1] == "<":
                parent = chain[number - 1]
            if parent is not None:
                pairs.add((child, parent))
        above = words if start else above
    return pairs


def bases() -> dict[str, str]:
    """Every class of the package to what stands in its parentheses."""
    return {
        name: parents
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".pyx")
        for name, parents in CLASS.findall(path.read_text(encoding="utf-8"))
    }


def arrows(drawing: str) -> set[tuple[str, str]]:
    """(holder, part) of a tree that is drawn with lines. Words in parentheses explain, and are no parts."""
    found = set()
    branches: dict[int, str] = {}  # column of a vertical line to the class that it comes from
    for line in drawing.splitlines():
        text = re.sub(r"\([^)]*\)", lambda m: " " * len(m[0]), line)
        holder = None
        end = 0
        for word in re.finditer(r"[A-Z]\w+", text):
            between = text[end : word.start()]
            if "," not in between:  # else it is beside the one before
                corner = re.search(r"[├└]", between)
                holder = branches[end + corner.start()] if corner else text[:end].split()[-1] if end else None
                if "┬" in between:
                    assert holder is not None
                    branches[end + between.index("┬")] = holder
            if holder is not None:
                found.add((holder, word[0]))
            end = word.end()
    return found


def held() -> dict[str, str]:
    """Every compiled class to the lines of its fields in its .pxd, those of its bases included."""
    bodies = {}
    above = {}
    for path in PACKAGE.rglob("*.pxd"):
        for name, base, body in re.findall(
            r"^cdef (?:class|struct) (\w+)(?:\((\w+)\))?:\n((?:(?:    .*)?\n)+)",
            path.read_text(encoding="utf-8"),
            re.M,
        ):
            lines = [line for line in body.splitlines() if not re.search(r"\w\(.*\)", line.partition("#")[0])]
            bodies[name] = "\n".join(lines)
            above[name] = base
    found = {}
    for name in bodies:
        chain, each = [], name
        while each in bodies:
            chain.append(bodies[each])
            each = above[each]
        found[name] = "\n".join(chain)
    return found


def holds(holder: str, part: str, fields: dict[str, str]) -> bool:
    """Whether a field is of that class, or its comment says what the container has."""
    typed = re.search(rf"^    cdef (?:readonly |public )?{part} _?\w+", fields.get(holder, ""), re.M)
    return bool(typed or re.search(rf"^    .*#.*\b{part}s?\b", fields.get(holder, ""), re.M))


def false_arrows(text: str) -> list[str]:
    drawing = text[text.index("Endpoint ─┬─") : text.index("upwards:")]
    pairs = arrows(drawing)
    assert len(pairs) >= 12
    fields = held()
    return [f"{holder} has no {part}" for holder, part in sorted(pairs) if not holds(holder, part, fields)]


def missing_methods(text: str) -> list[str]:
    """Methods on the road of a message that their class does not have."""
    road = text[text.index("send:     ") :].partition("```")[0]
    sources = [
        path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx")
    ]
    found = []
    steps = sorted(set(re.findall(r"\b([A-Z]\w+)\.([a-z_]\w+)", road)))
    assert len(steps) >= 10
    for name, method in steps:
        head = re.compile(rf"^(?:cdef )?class {name}\b.*?(?=^\S|\Z)", re.M | re.S)
        body = next((m[0] for m in map(head.search, sources) if m), "")
        if not re.search(rf"^    (?:async )?(?:def|cdef) .*?\b{method}\(", body, re.M):
            found.append(f"{name} has no method {method}")
    return found


def test_the_map_names_every_module_and_no_other():
    text = (HERE / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert on_the_map(text) == in_the_files()


def test_the_class_tree_is_that_of_the_files():
    text = (HERE / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text[text.index("Compiled classes that inherit") : text.index("The owners of the objects")]
    pairs = drawn(tree)
    known = bases()
    assert len(pairs) >= 15
    wrong = [
        f"{child} does not continue {parent}"
        for child, parent in sorted(pairs)
        if not re.search(rf"\b{parent}\b", known.get(child, ""))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("change", "missing"), [(("`arena` ", ""), "log/arena"), (("`errors`", "`faults`"), "errors")]
)
def test_a_module_that_is_not_on_the_map_is_seen(change: tuple[str, str], missing: str):
    text = (HERE / "CONTRIBUTING.md").read_text(encoding="utf-8").replace(*change)
    assert missing in in_the_files() - on_the_map(text)


def test_the_house_keeps_its_size():
    """At most 30 files at the root, at least 7 folders, no module over 650 lines."""
    modules = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".pyi")]
    assert sum(path.parent == PACKAGE for path in modules) <= 30
    assert len({path.parent for path in modules}) > 7
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    assert {name: count for name, count in lines.items() if count > 650} == {}


def public_classes(texts: dict[str, str]) -> dict[str, list[str]]:
    """Class names without an underscore in front to the modules that define them."""
    found: dict[str, list[str]] = {}
    for module, text in sorted(texts.items()):
        for name in re.findall(r"^(?:cdef )?class ([A-Za-z]\w*)", text, re.M):
            found.setdefault(name, []).append(module)
    return found


def test_no_public_class_name_is_defined_twice():
    texts = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".pyx")
    }
    found = public_classes(texts)
    assert len(found) > 150
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}
    # A second one, compiled or not, is seen.
    texts["ws/second.pyx"] = "cdef class Endpoint:\n    pass\n"
    assert public_classes(texts)["Endpoint"] == ["link/endpoint.pyx", "ws/second.pyx"]


def test_the_drawing_shows_who_holds_whom():
    text = (HERE / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert false_arrows(text) == []
    assert missing_methods(text) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("├─ Pacer (", "├─ Merge ("), "Endpoint has no Merge"),
        (("Writer ── Merge", "Writer ── Handoff"), "Writer has no Handoff"),
        (("└─ Ages (", "└─ Sweep ("), "Log has no Sweep"),
        (("Inbox, InputQuota", "Inbox, Writer"), "Endpoint has no Writer"),
        (("Log.commit", "Log.consign"), "Log has no method consign"),
    ],
)
def test_a_drawing_that_is_not_true_is_seen(change: tuple[str, str], complaint: str):
    text = (HERE / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert change[0] in text
    false = text.replace(*change)
    assert complaint in false_arrows(false) + missing_methods(false)
