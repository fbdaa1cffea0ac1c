from typing_extensions import disjoint_base

from deli_com.receive.inbox import Inbox

@disjoint_base
class PolicyInbox(Inbox): ...
