from typing_extensions import disjoint_base

from deli_com.link.connection import Connection
from deli_com.schema.control import Announcement

@disjoint_base
class Speaker(Connection):
    def announce(self, announcement: Announcement, with_hello: bool) -> None: ...
