"""Schemas for files of other programs, read from ROS 1 message definitions."""

from __future__ import annotations

import re

from deli_com.schema.schema import Schema

__all__ = ["schema_of_ros1"]

SCALARS = {f"{sign}int{bits}": f"{sign or 'i'}{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)}
SCALARS |= {"bool": "bool", "string": "str", "float32": "f32", "float64": "f64", "byte": "i8", "char": "u8"}
TIMES = {"time": ("secs u32", "nsecs u32"), "duration": ("secs i32", "nsecs i32")}
_FIELD = re.compile(r"([A-Za-z]\w*(?:/[A-Za-z]\w*)?)(\[\d*\])?\s+([A-Za-z]\w*)\s*(=.*)?")


def schema_of_ros1(name: str, text: str) -> Schema:
    """The schema of a ROS 1 message.

    Parameters
    ----------
    name : str
        ``package/Message``.
    text : str
        Its definition, followed by those of the messages in it, as in an MCAP file. Constants are ignored.

    Raises
    ------
    ValueError
        The text is not such a definition, or has a type that a schema cannot express.
    """
    parts = re.split(r"^=+\n", text, flags=re.M)
    messages = {name: parts[0]}
    for part in parts[1:]:
        head, _, body = part.partition("\n")
        if not head.startswith("MSG:"):
            raise ValueError(
                f"no ROS 1 definition: expected 'MSG: package/Name' after the separator, got {head!r}"
            )
        messages[head.removeprefix("MSG:").strip()] = body
    made: dict[str, list[str]] = {}
    used: dict[str, str] = {}
    _add(name, messages, made, used)
    lines = ["deli 1", f"root {used[name]}"]
    for struct, fields in made.items():
        lines += [f"struct {struct}", *(f" {field}" for field in fields)]
    return Schema.parse("\n".join([*lines, ""]))


def _add(full: str, messages: dict[str, str], made: dict[str, list[str]], used: dict[str, str]) -> str:
    # The struct name for a message. Definitions are in the order of their first use.
    if full in used:
        return used[full]
    name = short = full.rpartition("/")[2]
    number = 2
    while name in made:
        name, number = f"{short}_{number}", number + 1
    used[full] = name
    fields: list[str] = []
    made[name] = fields
    if full in TIMES:
        fields += TIMES[full]
        return name
    package = full.rpartition("/")[0]
    for line in messages[full].splitlines():
        if not (code := line.partition("#")[0].strip()):
            continue
        found = _FIELD.fullmatch(code)
        if found is None:
            raise ValueError(f"no ROS 1 definition: {code!r} in {full} is no field")
        kind, array, label, constant = found.groups()
        if constant is not None:
            continue
        item = SCALARS.get(kind) or _add(_resolve(kind, package, messages, full), messages, made, used)
        if array is None:
            fields.append(f"{label} {item}")
        elif array == "[]":
            fields.append(f"{label} {'bytes' if item == 'u8' else f'[{item}]'}")
        else:
            fields.append(f"{label} [{item};{array[1:-1]}]")
    return name


def _resolve(kind: str, package: str, messages: dict[str, str], where: str) -> str:
    if kind in TIMES:
        return kind
    for full in (kind, f"{package}/{kind}", "std_msgs/Header" if kind == "Header" else kind):
        if full in messages:
            return full
    found = [full for full in messages if full.rpartition("/")[2] == kind]
    if len(found) == 1:
        return found[0]
    raise ValueError(f"no ROS 1 definition: {kind!r} in {where} is not defined")
