from asyncio import BaseTransport, BufferedProtocol
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from deli_com.link.endpoint import Endpoint
from deli_com.link.tcp_marks import TcpMarks
from deli_com.link.tcp_read_buffer import ReadBuffer
from deli_com.net.address import Address
from deli_com.net.log_budget import LogBudget

@disjoint_base
class TcpLink(TcpMarks, BufferedProtocol):
    def __init__(
        self,
        endpoint: Endpoint[Any, Any],
        buffer: ReadBuffer,
        on_opened: Callable[[TcpLink], object] | None = None,
        log: LogBudget | None = None,
    ) -> None: ...
    @property
    def failure(self) -> Exception | None: ...
    def comes_from(self, remote: Address | None) -> None: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def connection_made(self, transport: BaseTransport) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def eof_received(self) -> bool: ...
    def discard(self) -> None: ...
