"""The types of the tests of schemas on the wire, and their schemas."""

from __future__ import annotations

from deli_com import Codec, codec, f32, u8, u32


class Reading(Codec):
    a: u32
    b: f32


class Order(Codec):
    code: u8


class State(Codec, policy="latest", key="id", retain=True):
    id: u32
    level: f32


DOWN, UP, STATE = codec(Reading).schema, codec(Order).schema, codec(State).schema
OTHER = "0" * 32
