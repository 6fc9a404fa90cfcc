"""The audit: which endpoints a Django project has, and what stands between the fence and its views."""

from __future__ import annotations

import codecs
import functools
import os
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from django.apps import apps
from django.conf import settings
from django.core.handlers.base import BaseHandler

from afmiddleware.assemble import assemble, audited
from afmiddleware.declare import declared, location
from afmiddleware.errors import ConfigError
from afmiddleware.mapping.coverage import ANY_METHOD, Endpoint, Listing, Report
from afmiddleware.policy_file import read_policy
from afmiddleware_django.layers import FENCE, HARMLESS, inner_layers
from afmiddleware_django.resolver import Resolver
from afmiddleware_django.settings import read_settings
from afmiddleware_django.views import middlewares_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from afmiddleware.config.schema import Config
    from afmiddleware_django.apps import FenceConfig
    from afmiddleware_django.resolver import Place

APP: Final = "afmiddleware_django"
"""The name and the label of the Django application."""


class Examined(msgspec.Struct, frozen=True):
    """A project under its policy: every endpoint with its capability, and all that is wrong."""

    config: Config
    listing: Listing
    report: Report


def listing(app: Any) -> Listing:
    """What the project has whose WSGI or ASGI application `app` is. Raises `TypeError` for anything else."""
    if not isinstance(app, BaseHandler):
        msg = (
            f"{dotted(app)} is no Django application: name the one of get_wsgi_application() or get_asgi_application()"
        )
        raise TypeError(msg)
    try:
        urlconfs = read_settings().urlconfs
    except ConfigError:
        urlconfs = ()
    resolver, problem = resolver_for(urlconfs)
    return Listing(problems=(problem,)) if resolver is None else listed(resolver)


def fenced(_app: BaseHandler) -> bool:
    """Whether the fence is among the project's middlewares."""
    return FENCE in settings.MIDDLEWARE


def examine() -> Examined:
    """Look at the project under its policy; nothing is started. Raises `ConfigError` with every problem of either."""
    said = read_settings()
    resolver, problem = resolver_for(said.urlconfs)
    found = Listing(problems=(problem,)) if resolver is None else listed(resolver)
    if said.fence is not None:
        fence = app_config().fence
        return Examined(fence.config, found, fence.audit(found))
    config, base = read_policy(said.policy, os.environ)
    plan, keys = assemble(config, base)
    keys.close()
    return Examined(config, found, audited(plan, config, found))


def policy_in_use() -> tuple[Config, Path]:
    """The policy and the folder its files are relative to. Raises `ConfigError`."""
    said = read_settings()
    if said.fence is None:
        return read_policy(said.policy, os.environ)
    fence = app_config().fence
    return fence.config, fence.base


def app_config() -> FenceConfig:
    """This application, as the registry holds it."""
    return cast("FenceConfig", apps.get_app_config(APP))


def resolver_for(urlconfs: tuple[str, ...]) -> tuple[Resolver | None, str]:
    """The URLconf, or why it cannot be read."""
    try:
        return Resolver(urlconfs), ""
    except Exception as error:  # noqa: BLE001 (importing the project's URLconf may raise anything, and it is said)
        return None, f"the URLconf cannot be read: {type(error).__name__}: {error}"


def listed(resolver: Resolver) -> Listing:
    """The endpoints of a URLconf, and the layers behind the fence."""
    endpoints = [endpoint for place in resolver.places for endpoint in _endpoints(place)]
    # The views of an application that is judged as a whole are one endpoint.
    once = {(one.method, one.template, one.kind if one.kind == "mount" else one.name): one for one in endpoints}
    unknown = tuple(
        Endpoint(method=ANY_METHOD, template=leaf.template or "/", name=leaf.node, kind="unknown")
        for leaf in resolver.unknown
    )
    return Listing(endpoints=(*once.values(), *unknown), layers=tuple(_layers(resolver)), problems=(*_charset(),))


def _charset() -> Iterator[str]:
    said = settings.DEFAULT_CHARSET
    if codecs.lookup(said).name != "utf-8":
        yield f"DEFAULT_CHARSET is {said}: views would read a query in it, and what is judged is UTF-8; leave it out"


def _endpoints(place: Place) -> Iterator[Endpoint]:
    view = place.view
    if place.whole is not None:
        yield Endpoint(method=ANY_METHOD, template=place.template, name="django.contrib.admin", kind="mount")
        return
    judged: dict[str, list[str]] = {}
    for method, (under, _) in sorted(place.keys.items()):
        judged.setdefault(under, []).append(method)
    if place.any_method:
        judged = {ANY_METHOD: []}
    for under, methods in judged.items():
        asked = "GET" if under == ANY_METHOD else under
        yield Endpoint(
            method=under,
            template=place.template,
            methods=tuple(methods),
            name=dotted(view),
            where=location(view),
            declaration=declared(view, asked),
        )


def _layers(resolver: Resolver) -> Iterator[str]:
    found = dict.fromkeys(inner_layers())
    for place in resolver.places:
        for made in middlewares_on(place.view):
            name = f"{made.__module__}.{made.__qualname__}"
            # The cache of one view is asked after the decision on that view.
            if name not in HARMLESS and name != "django.middleware.cache.CacheMiddleware":
                found.setdefault(name)
    yield from found


def dotted(thing: Any) -> str:
    """The import path of a class or function; of an object, that of its class."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    made = getattr(thing, "__dict__", {}).get("view_class") or getattr(thing, "__dict__", {}).get("cls")
    thing = made or thing
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"
