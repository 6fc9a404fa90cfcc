"""`afmiddleware check --app`: find an application, have its framework's adapter list it, and show the audit."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click
import msgspec

from afmiddleware.cli.common import many
from afmiddleware.mapping.coverage import STOPS, Endpoint, Listing
from afmiddleware.pep.asgi import FenceMiddleware as AsgiFence
from afmiddleware.pep.table import RouteTable
from afmiddleware.pep.wsgi import FenceMiddleware as WsgiFence

if TYPE_CHECKING:
    from afmiddleware.mapping.coverage import Covered, Report
    from afmiddleware.plan import Plan

ADAPTERS: Final = {
    "fastapi": "afmiddleware_fastapi",
    "starlette": "afmiddleware_fastapi",
    "flask": "afmiddleware_flask",
    "django": "afmiddleware_django",
}
"""The adapter package of a framework, by the top-level package that an application's class comes from."""

_TABLE: Final = (
    "no adapter knows this kind of application: its requests are resolved by the policy's own table of routes, which "
    "cannot tell what the application does with them and cannot list its endpoints"
)
_UNFENCED: Final = (
    "no fence stands in {place} as it is imported here, so that nothing of this is enforced until one is added to it "
    "or put around it"
)
_WRAPPERS: Final = ("app", "wsgi_app", "application")


def listing_of(place: str, plan: Plan, source: str) -> Listing:
    """Import `module:app` (or `module:make_app()`) and list it; what no adapter knows is listed as the policy has it.

    Raises `click.UsageError` for what is not there, and `ConfigError` where the policy's own table would be used and
    cannot be made.
    """
    app = application(place)
    found = listed(app, place)
    if found is not None:
        return found
    if not callable(app):
        msg = f"{place} is no application: {type(app).__name__}"
        raise click.UsageError(msg)
    RouteTable(plan.bindings, source)
    keys = [key.partition(" ") for key in plan.bindings]
    endpoints = [Endpoint(method=method, template=template, name="?") for method, _, template in keys]
    return Listing(endpoints=(*endpoints,), notes=(_TABLE,))


def listed(app: Any, place: str) -> Listing | None:
    """What an adapter says of an application; `None` where none knows it. Raises `click.UsageError`."""
    seen: set[int] = set()
    here, fenced = app, False
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        package = _adapter(here)
        if package is not None:
            try:
                audit = importlib.import_module(f"{package}.audit")
            except ImportError as error:
                msg = f"{place} needs {package}, which cannot be imported: {error}"
                raise click.UsageError(msg) from error
            found = cast("Listing", audit.listing(here))
            if fenced or audit.fenced(here):
                return found
            return msgspec.structs.replace(found, notes=(*found.notes, _UNFENCED.format(place=place)))
        fenced = fenced or isinstance(here, AsgiFence | WsgiFence)
        here = next((inner for name in _WRAPPERS if (inner := getattr(here, name, None)) is not None), None)
    return None


def told(report: Report) -> dict[str, object]:
    """An audit as JSON."""
    findings = [{**msgspec.structs.asdict(one), "stops": one.id in STOPS} for one in report.findings]
    return {"endpoints": report.endpoints, "findings": findings, "notes": report.notes}


def show(place: str, report: Report) -> None:
    """Print an audit for people: the endpoints on stdout, what is wrong on stderr."""
    for note in report.notes:
        click.echo(f"note: {note}")
    if report.endpoints:
        rows = [(one.endpoint, _capability(one), one.handler, one.bound) for one in report.endpoints]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for finding in report.findings:
        click.echo(f"{finding.id}: {finding}", err=True)
    stops = sum(finding.id in STOPS for finding in report.findings)
    unmapped = sum(one.capability == "unmapped" for one in report.endpoints)
    mapped = len(report.endpoints) - unmapped
    click.echo(
        f"{place}: {many(len(report.endpoints), 'endpoint')}, {mapped} mapped, {unmapped} unmapped; "
        f"{many(len(report.findings), 'finding')}, of which {stops} stop the start."
    )


def _capability(one: Covered) -> str:
    return f"{one.capability} ({', '.join(one.methods)})" if one.methods else one.capability


def application(place: str) -> Any:
    """What `module:app` or `module:make_app()` names. Raises `click.UsageError`."""
    module, _, attribute = place.partition(":")
    if not module or not attribute:
        msg = f"{place!r} names no application; write module:app, or module:make_app()"
        raise click.UsageError(msg)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        msg = f"{module} cannot be imported: {error}"
        raise click.UsageError(msg) from error
    try:
        for name in attribute.removesuffix("()").split("."):
            found = getattr(found, name)
    except AttributeError as error:
        msg = f"{place}: {error}"
        raise click.UsageError(msg) from error
    return found() if attribute.endswith("()") else found


def _adapter(app: object) -> str | None:
    """The package that knows applications like this one."""
    for cls in type(app).__mro__:
        top = cls.__module__.partition(".")[0]
        if top in ADAPTERS and not cls.__module__.startswith("starlette.middleware"):
            return ADAPTERS[top]
    return None
