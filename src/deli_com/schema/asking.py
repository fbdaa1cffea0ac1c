"""Terms of an end that has no types: it asks for both schemas (``?``) and passes values on as bytes.

::

    terms = AskingTerms(placeholder, placeholder, logger=..., told=...)
    told(Schemas(down, up))         once both are known, before any value

The other end writes `down` and knows both, whichever of the two has opened the connection. `WriterTerms` are
those of such an end that has opened it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from deli_com._fastcodec import TypeCodec
from deli_com.errors import SchemaMismatch
from deli_com.schema import control
from deli_com.schema.control import ASK, NOTHING, Announcement, Hello, Refused, SchemaText
from deli_com.schema.question import Schemas
from deli_com.schema.schema import Schema
from deli_com.schema.terms import Agreement, Ending, PeerSchema, SchemaUse, Terms

__all__ = ["AskingTerms", "WriterTerms"]

CODE_BROKEN = 1002  # RFC 6455 section 7.4.1: a protocol error


class AskingTerms(Terms):
    """What an end says that takes whatever schemas the other end has.

    Parameters
    ----------
    writes, reads : TypeCodec
        Any: nothing is encoded or decoded by them.
    logger : logging.Logger
    told : callable
        ``(schemas)``, called once for each connection, before its first value. A ValueError of it ends the
        connection.
    """

    __slots__ = ("told",)

    def __init__(
        self,
        writes: TypeCodec[Any],
        reads: TypeCodec[Any],
        *,
        logger: logging.Logger,
        told: Callable[[Schemas], None],
    ) -> None:
        super().__init__(writes, reads, is_client=True, use="require", logger=logger)
        self.says = Announcement(ASK, ASK)
        self.header = control.render_header(self.says)
        self.hello = control.render(Hello(self.says))
        self.told = told

    def agree(self, theirs: Announcement | None) -> Agreement:
        return _AskingAgreement(self, theirs)

    def read_header(self, value: str) -> Announcement | None:
        return control.parse_header(value)


class _AskingAgreement(Agreement):
    """Settled once the other end has told what it announced."""

    __slots__ = ("_found",)
    terms: AskingTerms

    def __init__(self, terms: AskingTerms, theirs: Announcement | None) -> None:
        self._found: dict[str, Schema] = {}
        super().__init__(terms, theirs)

    def begin(self, theirs: Announcement) -> None:
        if ASK in (theirs.down, theirs.up):
            raise Ending(CODE_BROKEN, "it asks for schemas, and was to tell them")
        self.theirs = theirs

    @property
    def schema(self) -> PeerSchema:
        down, up = (self._use(direction) for direction in ("down", "up"))
        return PeerSchema(down, None if self.theirs is not None and self.theirs.up == NOTHING else up)

    def _use(self, direction: str) -> SchemaUse:
        found = self._found.get(direction)
        return SchemaUse("unknown" if found is None else "same", found)

    def opening(self) -> list[bytes]:
        return []

    def handle(self, told: SchemaText | Refused, *, values: bool, who: object) -> None:
        theirs = self.theirs
        if isinstance(told, Refused):
            raise Ending(1000, "", error=SchemaMismatch("value", told.differences, "the other end refuses"))
        if theirs is None or self.is_settled or told.direction in self._found:
            raise Ending(CODE_BROKEN, "a schema that is too late, or not needed")
        if told.hash != self._of(theirs, told.direction):
            raise Ending(CODE_BROKEN, f"a schema of another hash than was announced: {told.hash}")
        try:
            schema = Schema.parse(told.text)
            if schema.hash != told.hash:
                raise ValueError(f"the text has the hash {schema.hash}, not {told.hash}")
            self._found[told.direction] = schema
            if "down" in self._found and (theirs.up == NOTHING or "up" in self._found):
                self.terms.told(Schemas(self._found["down"], self._found.get("up")))
                self.is_settled = True
                self.reads = self.terms.reads
        except ValueError as error:
            raise Ending(CODE_BROKEN, f"no schema: {error}") from None

    def release(self) -> None:
        self._found = {}


class WriterTerms(Terms):
    """What an end says that has opened a connection to write `down` on it, to one that asks.

    Parameters
    ----------
    writes, reads : TypeCodec
        Of `down` and `up`; `reads` is None where nothing comes back.
    logger : logging.Logger
    """

    __slots__ = ()

    def __init__(
        self, writes: TypeCodec[Any], reads: TypeCodec[Any] | None, *, logger: logging.Logger
    ) -> None:
        super().__init__(writes, reads, is_client=False, use="require", logger=logger)

    def agree(self, theirs: Announcement | None) -> Agreement:
        if theirs is not None and theirs.down != ASK:
            raise Ending(
                CODE_BROKEN, "the other end does not ask for what is written to it: no --accept-dial"
            )
        return super().agree(theirs)
