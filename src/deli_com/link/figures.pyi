from typing import Any

from deli_com.link.endpoint import Endpoint
from deli_com.link.stats import ServerStats

def figures_of(endpoint: Endpoint[Any, Any]) -> ServerStats: ...
