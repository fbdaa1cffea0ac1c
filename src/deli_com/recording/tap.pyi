from collections.abc import Callable
from typing import Any, Final, final

from typing_extensions import disjoint_base

from deli_com.recording.intake import Intake

ALONE: Final[object]

@disjoint_base
class Hearer: ...

@final
class Sink(Hearer):
    def __new__(
        cls, intake: Intake, channel_of: Callable[[int, int, Any], int], sent: int, received: int
    ) -> Sink: ...
    @property
    def intake(self) -> Intake: ...

@final
class Tap:
    def __new__(cls, sinks: tuple[Hearer, ...]) -> Tap: ...
    @property
    def sinks(self) -> tuple[Hearer, ...]: ...
