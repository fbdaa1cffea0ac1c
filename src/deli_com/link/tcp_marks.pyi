from typing_extensions import disjoint_base

from deli_com.link.marked_link import MarkedLink

@disjoint_base
class TcpMarks(MarkedLink): ...
