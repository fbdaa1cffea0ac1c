"""`Nanoseconds`: a moment as an int, with what a moment can do."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from inspect import Parameter, Signature
from typing import ClassVar, Self, final

__all__ = ["Nanoseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@final
class Nanoseconds(int):
    """A moment: nanoseconds since 1970-01-01 00:00 UTC, as `time.time_ns` counts them.

    As a field it is u64 on the wire, and i64 where it is written ``Annotated[Nanoseconds, i64]`` (for moments
    before 1970). The field takes any int, and gives `Nanoseconds`, which is an int. A datetime is refused,
    because it has only microseconds, and often no time zone: `from_datetime` converts it.

    Examples
    --------
    >>> from deli_com import Nanoseconds
    >>> moment = Nanoseconds(1_700_000_000_123_456_789)
    >>> moment.to_datetime().isoformat()
    '2023-11-14T22:13:20.123456+00:00'
    >>> moment + 1
    1700000000123456790
    """

    __slots__ = ()

    # That of int, which has none for `inspect` and `help`.
    __signature__: ClassVar[Signature] = Signature(
        [Parameter("value", Parameter.POSITIONAL_ONLY, default=0, annotation=int)]
    )

    @classmethod
    def now(cls) -> Self:
        """This moment, by the system's clock."""
        return cls(time.time_ns())

    @classmethod
    def from_datetime(cls, moment: datetime) -> Self:
        """The same moment; exact to the microsecond.

        Raises
        ------
        ValueError
            `moment` has no time zone.
        """
        if not isinstance(moment, datetime):
            raise TypeError(f"from_datetime takes a datetime, got {type(moment).__qualname__}")
        if moment.utcoffset() is None:
            raise ValueError(
                "a datetime without a time zone is no moment: datetime.now(timezone.utc) has one, "
                "moment.astimezone() takes it for local time"
            )
        return cls((moment - _EPOCH) // _MICROSECOND * 1000)

    def to_datetime(self) -> datetime:
        """The same moment in UTC; what is below a microsecond is cut off.

        Raises
        ------
        OverflowError
            It is before the year 1 or after 9999: no u64 or i64 is.
        """
        return _EPOCH + timedelta(microseconds=int(self) // 1000)
