"""The route table of fence.yaml as the router of an ASGI application that cannot be asked itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from afmiddleware.pep.table import TablesOf

if TYPE_CHECKING:
    from starlette.types import Scope

    from afmiddleware.fence import Fence
    from afmiddleware.model.http import Target
    from afmiddleware.pep.table import RouteTable
    from afmiddleware.plan import Plan

_log = logging.getLogger("afmiddleware")


class TableRouter:
    """Asks the table of the policy that is in force. Raises `ConfigError` for one that a table cannot hold."""

    watched = False

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._tables = TablesOf(fence)
        _log.info("%s: routes are resolved by its own table, not by the application's router", fence.config.source)

    def begin(self, scope: Scope) -> TableRouting:
        """Look at one request."""
        plan = self._fence.plan
        return TableRouting(plan, self._tables.of(plan), scope)


class TableRouting:
    """One request. Nothing can be sealed, for nobody says which endpoint is reached."""

    __slots__ = ("_scope", "_table", "plan")

    def __init__(self, plan: Plan, table: RouteTable, scope: Scope) -> None:
        self.plan = plan
        self._table = table
        self._scope = scope

    def resolve(self) -> Target:
        """The entry that the request means; never `None`, so that what is not listed is denied."""
        scope = self._scope
        method = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
        return self._table.find_mounted(method, scope["path"], scope.get("root_path", ""))

    def seal(self) -> Unsealed:
        """The scope to hand inward."""
        return Unsealed(self._scope)

    def unsealed(self, sealed: Any, status: int) -> bool:
        """Whether an answer comes from somewhere else: that cannot be told."""
        del sealed, status
        return False


class Unsealed(dict[str, Any]):
    """A scope that says of itself that its endpoint may be taken as reached."""

    fired = True
    invalid = False
