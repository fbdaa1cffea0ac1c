"""The request for a server's schemas by a client without types: ``?`` for both hashes (wire.md section 10).

::

    question = Question()
    question.hello                      what the client announces
    question.answered(announcement)     the server's hashes
    question.handle(data)               each control text, until `is_settled`
    question.schemas                    the result

This module does no I/O: `deli_com.ws.ask` and `deli_com.tcp.ask` do.
"""

from __future__ import annotations

from typing import NamedTuple

from deli_com.schema import control
from deli_com.schema.control import ASK, NOTHING, Announcement, Hello, Refused, SchemaText
from deli_com.schema.schema import Schema

__all__ = ["Question", "Schemas"]


class Schemas(NamedTuple):
    """The schemas of a server.

    Attributes
    ----------
    down : Schema
        Schema of the values that the server sends.
    up : Schema or None
        Schema of the values that the server receives; None if clients send nothing.
    """

    down: Schema
    up: Schema | None


class Question:
    """The request of one connection, and the answers so far."""

    hello = Announcement(ASK, ASK)

    def __init__(self) -> None:
        self._says: Announcement | None = None
        self._found: dict[str, Schema] = {}

    def answered(self, says: Announcement) -> None:
        """Take the server's hashes; `ValueError` if it answers without hashes, or twice."""
        if self._says is not None:
            raise ValueError("a second answer")
        if ASK in (says.down, says.up):
            raise ValueError("an answer without hashes")
        self._says = says

    def handle(self, data: bytes) -> None:
        """Handle a control text of the server. Texts of other kinds are ignored.

        Raises
        ------
        ValueError
            The text is malformed, is a refusal, or is not the schema that was announced.
        """
        told = control.parse(data) if control.is_control(data) else None
        if isinstance(told, Hello):
            self.answered(told.says)
        elif isinstance(told, Refused):
            raise ValueError(f"it refuses: {'; '.join(told.differences)}")
        elif isinstance(told, SchemaText):
            self._learn(told)

    def _learn(self, told: SchemaText) -> None:
        announced = None if self._says is None else getattr(self._says, told.direction)
        schema = Schema.parse(told.text)
        if not schema.hash == told.hash == announced:
            raise ValueError(f"a schema of another hash than was announced: {schema.hash}, not {announced}")
        self._found[told.direction] = schema

    @property
    def is_settled(self) -> bool:
        """Whether the schemas of both directions are known."""
        says = self._says
        return says is not None and "down" in self._found and ("up" in self._found or says.up == NOTHING)

    @property
    def schemas(self) -> Schemas:
        return Schemas(self._found["down"], self._found.get("up"))
