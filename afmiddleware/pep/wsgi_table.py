"""The route table of fence.yaml as the router of a WSGI application that cannot be asked itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from afmiddleware.pep.environ import path_of
from afmiddleware.pep.table import TablesOf

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from afmiddleware.fence import Fence
    from afmiddleware.model.http import Target
    from afmiddleware.pep.table import RouteTable
    from afmiddleware.plan import Plan

_log = logging.getLogger("afmiddleware")


class TableRouter:
    """Asks the table of the policy that is in force. Raises `ConfigError` for one that a table cannot hold."""

    def __init__(self, fence: Fence) -> None:
        self._tables = TablesOf(fence)
        _log.info("%s: routes are resolved by its own table, not by the application's router", fence.config.source)

    def begin(self, environ: WSGIEnvironment, plan: Plan) -> TableRouting:
        """Look at one request."""
        return TableRouting(self._tables.of(plan), environ)


class TableRouting:
    """One request. Nothing can be sealed, for nobody says which endpoint is reached."""

    __slots__ = ("_environ", "_table")

    def __init__(self, table: RouteTable, environ: WSGIEnvironment) -> None:
        self._table = table
        self._environ = environ

    def resolve(self) -> Target:
        """The entry that the request means; never `None`, so that what is not listed is denied."""
        environ = self._environ
        root = environ.get("SCRIPT_NAME", "").encode("latin-1").decode("utf-8", "replace")
        return self._table.find_mounted(environ["REQUEST_METHOD"], path_of(environ), root)
