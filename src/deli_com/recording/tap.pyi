from collections.abc import Callable
from typing import Any, Final, final

from deli_com.recording.intake import Intake

ALONE: Final[object]

@final
class Sink:
    def __new__(
        cls, intake: Intake, channel_of: Callable[[int, int, Any], int], sent: int, received: int
    ) -> Sink: ...
    @property
    def intake(self) -> Intake: ...

@final
class Tap:
    def __new__(cls, sinks: tuple[Sink, ...]) -> Tap: ...
    @property
    def sinks(self) -> tuple[Sink, ...]: ...
