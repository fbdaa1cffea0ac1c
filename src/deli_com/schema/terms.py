"""Schema negotiation of two ends: the schema of each direction, and how the reader reads it.

::

    terms = Terms(writes, reads, is_client=False, logger=...)   one for each endpoint
    agreement = Agreement(terms, announcement)                  one for each connection that announced
    agreement.opening()                                         texts that come before any value
    agreement.handle(told)                                      a control text of the other end

This module does no I/O. `Ending` is raised for an invalid text, and for one that ends the connection.
"""

from __future__ import annotations

import functools
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from deli_com._fastcodec import TypeCodec
from deli_com.errors import ConnectionClosed, SchemaMismatch
from deli_com.schema import control
from deli_com.schema.control import ASK, NOTHING, Announcement, Hello, Refused, SchemaText
from deli_com.schema.schema import Schema

__all__ = ["Agreement", "Ending", "How", "PeerSchema", "SchemaUse", "Terms", "Use", "silent", "terms_for"]

Use: TypeAlias = Literal["check", "require"]  # `bind` and `connect` also take None: no negotiation
How: TypeAlias = Literal["same", "renamed", "resolved", "unknown"]

MAX_KNOWN = 64  # foreign schemas that one endpoint keeps resolved
MAX_KNOWN_BYTES = 1 << 20  # of the texts of these schemas
MAX_WARNED = 256  # kinds of mismatch that are remembered as logged
MAX_LOGGED = 4096  # characters of a mismatch that the log shows
CODE_BROKEN = 1002  # RFC 6455 section 7.4.1: a protocol error
CODE_BUSY = 1013  # try again later


@dataclass(frozen=True, slots=True)
class SchemaUse:
    """How the values of one direction are read.

    Attributes
    ----------
    how : {"same", "renamed", "resolved", "unknown"}
        ``same``: equal schemas. ``renamed``: other names, the same bytes. ``resolved``: values are converted
        from the writer's type as they are read. ``unknown``: the other end has announced nothing so far, or
        it reads this direction itself and does not say how.
    theirs : Schema or None
        Schema of the other end, if it is known.
    """

    how: How
    theirs: Schema | None = None


@dataclass(frozen=True, slots=True)
class PeerSchema:
    """The schemas of one connection, by direction.

    Attributes
    ----------
    down : SchemaUse
        Direction from the server to the client.
    up : SchemaUse or None
        Direction from the client to the server; None if the type for it is None.
    """

    down: SchemaUse
    up: SchemaUse | None


class Ending(Exception):
    """Raised where the connection must be closed.

    Attributes
    ----------
    code : int
        Close code.
    reason : str
    text : bytes or None
        Control text to send before closing.
    error : Exception
        What a client's program gets as the error.
    """

    def __init__(
        self, code: int, reason: str, *, text: bytes | None = None, error: Exception | None = None
    ) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.text = text
        self.error = error if error is not None else ConnectionClosed(code, reason)


class _Known:
    """A schema of another writer, and the program that reads it."""

    __slots__ = ("codec", "schema", "size", "use", "users")

    def __init__(self, schema: Schema, codec: TypeCodec[Any], use: SchemaUse) -> None:
        self.schema = schema
        self.codec = codec
        self.use = use
        self.size = len(schema.text)
        self.users = 0  # connections that use it


class Terms:
    """The schemas that one endpoint announces, and the foreign schemas that it knows.

    1. Foreign schemas are limited to 64, and to 1 MiB of text, including those in use. To add one more, the
       oldest unused ones are evicted. If all are in use, the new one is refused.
    2. Each kind of mismatch is logged once. After 256 kinds, no more are logged.

    Parameters
    ----------
    writes, reads : TypeCodec or None
        Codecs of the types that this endpoint sends and receives.
    is_client : bool
    use : {"check", "require"}
    logger : logging.Logger
    """

    __slots__ = (
        "_known",
        "_known_bytes",
        "_logger",
        "_warned",
        "agreed",
        "header",
        "hello",
        "is_client",
        "reads",
        "same",
        "says",
        "use",
        "writes",
    )

    def __init__(
        self,
        writes: TypeCodec[Any] | None,
        reads: TypeCodec[Any] | None,
        *,
        is_client: bool,
        use: Use,
        logger: logging.Logger,
    ) -> None:
        self.writes = writes
        self.reads = reads
        self.is_client = is_client
        self.use = use
        self._logger = logger
        said = _sayings(writes, reads, is_client)
        self.says = said.says
        self.header = said.header
        self.hello = said.hello
        self.same = said.same
        self.agreed = said.agreed
        self._known: OrderedDict[str, _Known] | None = None
        self._known_bytes = 0
        self._warned: set[int] | None = None

    def agree(self, theirs: Announcement | None) -> Agreement:
        """The agreement of one connection; None: the other end's announcement is still to come."""
        return Agreement(self, theirs)

    @property
    def writing(self) -> str:
        """The direction that this endpoint writes."""
        return "up" if self.is_client else "down"

    @property
    def reading(self) -> str:
        return "down" if self.is_client else "up"

    def codec_of(self, direction: str) -> TypeCodec[Any] | None:
        return self.writes if direction == self.writing else self.reads

    def text_of(self, direction: str) -> bytes:
        """The control text with this endpoint's own schema of one direction.

        Raises
        ------
        Ending
            The text is longer than `control.MAX_BYTES`.
        """
        codec = self.codec_of(direction)
        assert codec is not None
        try:
            return _text_of(direction, codec)
        except ValueError as error:
            raise Ending(CODE_BROKEN, f"the schema for {direction} cannot be sent: {error}") from None

    def resolve(self, told: SchemaText) -> _Known:
        """Find the codec that reads this writer's values. The caller must `release` the result.

        Raises
        ------
        Ending
        """
        if self._known is None:
            self._known = OrderedDict()
        found = self._known.get(told.hash)
        if found is None or found.schema.text != told.text:  # with equal hashes only the notes can differ
            schema = _parsed(told)
            found = self._known.get(told.hash) or self._learn(schema)
        self._known.move_to_end(told.hash)
        found.users += 1
        return found

    def release(self, known: _Known) -> None:
        known.users -= 1

    def _learn(self, schema: Schema) -> _Known:
        assert self.reads is not None and self._known is not None
        try:
            codec = self.reads.reading(schema)
        except SchemaMismatch as error:
            differences = tuple(error.differences)
            reason = control.reason_of(differences[0] if differences else "another schema")
            raise Ending(
                control.REFUSED, reason, text=control.render(Refused(differences)), error=error
            ) from None
        how: How = "resolved"
        if schema.hash == self.reads.schema.hash:
            how = "same"
        elif codec is self.reads:
            how = "renamed"
        known = _Known(schema, codec, SchemaUse(how, schema))
        self._make_room(known.size)
        self._known[schema.hash] = known
        self._known_bytes += known.size
        return known

    def _make_room(self, size: int) -> None:
        assert self._known is not None
        for other, known in [*self._known.items()]:
            if len(self._known) < MAX_KNOWN and self._known_bytes + size <= MAX_KNOWN_BYTES:
                return
            if not known.users:
                del self._known[other]
                self._known_bytes -= known.size
        if len(self._known) >= MAX_KNOWN or (self._known and self._known_bytes + size > MAX_KNOWN_BYTES):
            raise Ending(CODE_BUSY, "clients with too many other schemas are connected")

    def warn(self, message: str, who: object, error: SchemaMismatch) -> None:
        """Log a mismatch. Further ones with the same differences are not logged.

        Parameters
        ----------
        message : str
            Format with one place for `who` and one for the text of `error`.
        who : object
            The other end.
        error : SchemaMismatch
        """
        if self._warned is None:
            self._warned = set()
        kind = hash(tuple(error.differences))  # a text made up by a peer is not kept
        if kind in self._warned or len(self._warned) >= MAX_WARNED:
            return  # a peer may invent differences to flood the log
        self._warned.add(kind)
        text = str(error)
        if len(text) > MAX_LOGGED:
            text = f"{text[:MAX_LOGGED]}... ({len(error.differences)} differences)"
        self._logger.warning(message, who, text)

    def schema_of(self, reads: SchemaUse, writes: SchemaUse) -> PeerSchema:
        down, up = (reads, writes) if self.is_client else (writes, reads)
        return PeerSchema(down, None if self.says.up == NOTHING else up)

    def read_header(self, value: str) -> Announcement | None:
        """`control.parse_header`, without parsing if the peer announces the same as this endpoint."""
        return self.says if value == self.header else control.parse_header(value)


UNKNOWN = SchemaUse("unknown")


class _Sayings(NamedTuple):
    # What an endpoint of two types announces, and what it has with a peer that announces the same.
    says: Announcement
    header: str
    hello: bytes
    same: tuple[SchemaUse, SchemaUse]  # reads, writes
    agreed: PeerSchema


@functools.lru_cache(maxsize=64)  # all clients of the same types share one
def _sayings(writes: TypeCodec[Any] | None, reads: TypeCodec[Any] | None, is_client: bool) -> _Sayings:
    own = (reads, writes) if is_client else (writes, reads)
    says = Announcement(*(NOTHING if c is None else c.schema.hash for c in own))
    down, up = (UNKNOWN if c is None else SchemaUse("same", c.schema) for c in own)
    return _Sayings(
        says,
        control.render_header(says),
        control.render(Hello(says)),
        (down, up) if is_client else (up, down),
        PeerSchema(down, None if says.up == NOTHING else up),
    )


@functools.lru_cache(maxsize=64)
def _text_of(direction: str, codec: TypeCodec[Any]) -> bytes:
    schema: Schema = codec.schema
    return control.render(SchemaText(direction, schema.hash, schema.text))


def _parsed(told: SchemaText) -> Schema:
    try:
        schema = Schema.parse(told.text)
    except ValueError as error:
        raise Ending(CODE_BROKEN, f"not a schema: {error}") from None
    if schema.hash != told.hash:
        raise Ending(CODE_BROKEN, f"the text has the hash {schema.hash}, not {told.hash}")
    return schema


def terms_for(
    writes: TypeCodec[Any] | None,
    reads: TypeCodec[Any] | None,
    *,
    is_client: bool,
    use: Use | None,
    logger: logging.Logger,
) -> Terms | None:
    """Make the terms of an endpoint; None if schemas are not to be, or cannot be, negotiated.

    Raises
    ------
    TypeError
        Schemas are required, and a name in the type is not allowed in a schema.
    """
    if use is None:
        return None
    try:
        return Terms(writes, reads, is_client=is_client, use=use, logger=logger)
    except TypeError as error:
        if use == "require":
            raise
        logger.info("no schema negotiation: %s", error)
        return None


def silent(has_up: bool) -> PeerSchema:
    """The schemas of a peer that announces nothing."""
    return PeerSchema(UNKNOWN, UNKNOWN if has_up else None)


class Agreement:
    """What one connection has negotiated so far.

    Parameters
    ----------
    terms : Terms
    theirs : Announcement or None
        None if the announcement of the other end is still to come.

    Attributes
    ----------
    reads : TypeCodec or None
        Codec for values of the other end; None if it sends none, or its schema is not known yet.
    is_settled : bool
        True if the schema of the other end's values is known, or will not be needed.
    """

    __slots__ = ("_known", "_reading", "_writing", "is_settled", "reads", "terms", "theirs")

    def __init__(self, terms: Terms, theirs: Announcement | None) -> None:
        self.terms = terms
        self.theirs: Announcement | None = None
        self.reads: TypeCodec[Any] | None = None
        self.is_settled = False
        self._known: _Known | None = None
        self._reading = self._writing = UNKNOWN
        if theirs is not None:
            self.begin(theirs)

    def begin(self, theirs: Announcement) -> None:
        """Take the announcement of the other end."""
        terms = self.terms
        reads_same, writes_same = terms.same
        if theirs is terms.says or theirs == terms.says:
            self.theirs = terms.says  # share one object among all such connections
            self.reads = terms.reads
            self.is_settled = True
            self._reading, self._writing = reads_same, writes_same
            return
        self.theirs = theirs
        if self._of(theirs, terms.writing) == self._of(terms.says, terms.writing):
            self._writing = writes_same
        said = self._of(theirs, terms.reading)
        if terms.reads is None or said == NOTHING:
            self.is_settled = True
        elif said in (self._of(terms.says, terms.reading), ASK):  # a peer that asked sends this type
            self.reads = terms.reads
            self.is_settled = True
            self._reading = reads_same

    @staticmethod
    def _of(says: Announcement, direction: str) -> str:
        return says.down if direction == "down" else says.up

    @property
    def schema(self) -> PeerSchema:
        """The schemas of this connection; see `PeerSchema`."""
        terms = self.terms
        return terms.agreed if self.theirs is terms.says else terms.schema_of(self._reading, self._writing)

    def opening(self) -> list[bytes]:
        """The schema texts that the other end needs before any value.

        Raises
        ------
        Ending
            A text is longer than `control.MAX_BYTES`.
        """
        terms, theirs = self.terms, self.theirs
        assert theirs is not None
        texts: list[bytes] = []
        if theirs is terms.says:
            return texts
        wanted = self._of(theirs, terms.writing)
        if terms.writes is not None and wanted not in (NOTHING, self._of(terms.says, terms.writing)):
            texts.append(terms.text_of(terms.writing))
        if not terms.is_client and theirs.up == ASK and terms.reads is not None:
            texts.append(terms.text_of("up"))
        return texts

    def handle(self, told: SchemaText | Refused, *, values: bool, who: object) -> None:
        """Handle a schema text or a refusal of the other end.

        Parameters
        ----------
        told : SchemaText or Refused
        values : bool
            True if values of the other end have been received already.
        who : object
            The other end, for the log.

        Raises
        ------
        Ending
        """
        terms = self.terms
        if isinstance(told, Refused):
            ending = self._refused(told, who)
            if terms.is_client:
                raise ending
            return  # the client closes the connection
        if told.direction != terms.reading:
            raise Ending(CODE_BROKEN, f"a schema of what this end sends ({told.direction})")
        if terms.reads is None:
            return  # this end does not read these values
        if values or self.is_settled or self.theirs is None:
            raise Ending(CODE_BROKEN, "a schema that is too late, or not needed")
        if told.hash != self._of(self.theirs, told.direction):
            raise Ending(CODE_BROKEN, f"a schema of another hash than was announced: {told.hash}")
        try:
            self._known = known = terms.resolve(told)
        except Ending as ending:
            if isinstance(ending.error, SchemaMismatch) and not terms.is_client:
                terms.warn("refused %s: %s (said once for each kind)", who, ending.error)
            raise
        self.reads = known.codec
        self._reading = known.use
        self.is_settled = True

    def _refused(self, told: Refused, who: object) -> Ending:
        terms = self.terms
        differences = told.differences or ("it does not say why",)
        end = "server" if terms.is_client else "client"
        name = "value" if terms.writes is None else terms.writes.schema.name
        error = SchemaMismatch(name, differences, f"the {end} refuses the {name} sent to it; as it sees it")
        if not terms.is_client:
            terms.warn("%s has refused: %s (said once for each kind)", who, error)
        return Ending(1000, "", error=error)

    def release(self) -> None:
        """Release the codec, after the connection has ended."""
        known, self._known = self._known, None
        if known is not None:
            self.terms.release(known)
