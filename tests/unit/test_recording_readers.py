"""The standard readers of Python and Node agree, value for value, with what was sent: values of random types.

`make test-gen` compares 100,000 values.
"""

from __future__ import annotations

import json
import keyword
import random
import re
import subprocess
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

import random_schemas
import ros1_values
from mcap.reader import make_reader
from mcap_ros1.decoder import DecoderFactory
from toolchains import npm, share, tool

from deli_com.recording.recorder import Recorder, describe_channel
from deli_com.schema.tree import Sealed

COUNT = share(100_000, 2_000)
SCHEMAS = share(200, 25)
# Names of fields that genpy cannot have in a struct in a struct: its code with them is no Python.
NO_NAMES = re.compile(rf"^ +({'|'.join(keyword.kwlist)}|self) ", re.MULTILINE)


class Recorded(NamedTuple):
    """Recordings of values of random types."""

    folder: Path
    lines: list[str]  # file, topic, time and value of each message, as they were sent
    plans: list[tuple[str, dict[str, Any]]]  # for each file: what `read` needs to know of each topic


def _topics(schema: Any) -> dict[str, str]:
    # Topics that ROS 1 can express, with the variant.
    root = schema.tree.by_name.get(str(schema.tree.root))
    names = [each.name for each in root.variants] if isinstance(root, Sealed) else [""]
    found = {name: describe_channel(schema, "down", name) for name in names}
    return {name: info.topic for name, info in found.items() if info.encoding == "ros1"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    rng = random.Random(7)
    folder = tmp_path_factory.mktemp("readers")
    schemas: dict[str, tuple[Any, dict[str, str]]] = {}  # by their text
    for seed in count(20):
        for schema in random_schemas.schemas(SCHEMAS, seed):
            if not NO_NAMES.search(schema.text) and (topics := _topics(schema)):
                schemas[schema.text] = schema, topics
        if len(schemas) >= SCHEMAS:
            break
    made = Recorded(folder, [], [])
    at = 1_700_000_000_000_000_000
    for place, (schema, topics) in enumerate(islice(schemas.values(), SCHEMAS)):
        name = f"{place}.mcap"
        values = random_schemas.Values(schema)
        plans = {topic: ros1_values.plan(values, variant) for variant, topic in topics.items()}
        made.plans.append((name, plans))
        target = COUNT * (place + 1) // SCHEMAS
        with Recorder(folder / name, schemas={"down": schema}) as recorder:
            while len(made.lines) < target:
                value = values.random(rng)
                variant = type(value).__name__ if "" not in topics else ""
                if variant not in topics:
                    continue
                at += rng.choice([0, 1, 1_000_000])
                recorder.intake.add(recorder.channel("down", variant), values.codec.to_bytes(value), at)
                made.lines.append(f"{name} {topics[variant]} {at} {ros1_values.sent(values, value)}")
    assert len(made.lines) == COUNT
    return made


def test_mcap_ros1_support_reads_what_was_sent(recorded: Recorded) -> None:
    found: list[str] = []
    for name, plans in recorded.plans:
        with (recorded.folder / name).open("rb") as stream:
            messages = make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages()
            found += [
                f"{name} {channel.topic} {message.log_time} {ros1_values.read(plans[channel.topic], value)}"
                for _, channel, message, value in messages
            ]
    assert found == recorded.lines


def test_mcap_core_and_rosmsg_serialization_of_node_read_what_was_sent(recorded: Recorded) -> None:
    modules = npm("@mcap/core", "@foxglove/rosmsg", "@foxglove/rosmsg-serialization")
    (recorded.folder / "plans.json").write_text(json.dumps(recorded.plans), encoding="utf-8")
    (recorded.folder / "main.mjs").write_text(ros1_values.NODE, encoding="utf-8")
    done = subprocess.run(
        [tool("node"), "main.mjs", str(modules), "."], cwd=recorded.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = (recorded.folder / "node.txt").read_text(encoding="utf-8").split("\n")[:-1]
    # Its TextDecoder takes a U+FEFF at the start of a text for a mark of byte order, and leaves it out.
    assert found == [line.replace('"efbbbf', '"') for line in recorded.lines]
