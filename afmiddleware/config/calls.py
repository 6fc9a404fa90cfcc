"""The calls of a policy's routes, each as if it were a route of its own: for whoever looks through the policy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afmiddleware.config.schema import Route


def with_calls(routes: Iterable[Route]) -> list[Any]:
    """The routes, and after each with a protocol its listed methods and tools, named `POST /rpc transfer`."""
    found: list[Any] = []
    for route in routes:
        found.append(route)
        for name, entry in [*(route.methods or {}).items(), *(route.tools or {}).items()]:
            made = str(route.capability).replace("{method}", name).replace("{tool}", name)
            known = {"route": f"{route.route} {name}", "line": route.line, "capability": entry.capability or made}
            found.append(SimpleNamespace(**{**dict(entry), **known}))
    return found
