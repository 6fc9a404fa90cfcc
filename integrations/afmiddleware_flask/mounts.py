"""What stands around a Flask application as WSGI layers: middlewares, and dispatchers with other applications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from afmiddleware.errors import ClientGoneError, SealBrokenError
from afmiddleware.mapping.coverage import key_of
from afmiddleware.model.http import Target
from afmiddleware.plan import Refused
from afmiddleware_flask.seal import KEY, FlaskExchange

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

REST = "/{path:path}"
"""The template of everything below a place that is one endpoint as a whole."""

HARMLESS: frozenset[object] = frozenset({ProxyFix})
"""WSGI middlewares that leave method, path, query and body as they are. A subclass is not one of them."""

EXTENSION = "afmiddleware"
"""The name under which a fenced application knows its fence (`app.extensions`)."""

_NEXT = ("app", "wsgi_app", "application")


class Mounted(msgspec.Struct, frozen=True):
    """A Flask application behind the fence, and the path it is mounted at; `fenced` when it has a fence of its own."""

    app: Flask
    mount: str
    fenced: Any = None


class Whole(msgspec.Struct, frozen=True):
    """A mounted application that is no Flask application, and is judged as one endpoint."""

    dispatcher: DispatcherMiddleware
    prefix: str
    mount: str

    @property
    def app(self) -> Any:
        """What is mounted."""
        found = self.dispatcher.mounts[self.prefix]
        return found.app if isinstance(found, WholeMount) else found


class Chain(msgspec.Struct):
    """What a WSGI callable leads to."""

    layers: list[object]
    flasks: list[Mounted]
    wholes: list[Whole]


def chain_of(inner: Any, mount: str = "", *, until: object = None) -> Chain:
    """Look through a WSGI callable, dispatchers unfolded, to the Flask applications; or up to `until`."""
    chain = Chain([], [], [])
    _follow(inner, mount, chain, until)
    return chain


def _follow(here: Any, mount: str, chain: Chain, until: object) -> bool:
    """Whether a Flask application, or `until`, was found at the end."""
    while here is not None and not isinstance(here, WholeMount):
        app = getattr(here, "app", None)
        owner = getattr(here, "__self__", None)
        if here is until:
            return True
        fenced = app.extensions.get(EXTENSION) if isinstance(app, Flask) else None
        if fenced is not None and fenced is here:
            chain.flasks.append(Mounted(fenced.app, fenced.resolver.mount, fenced))
            return True
        if isinstance(owner, Flask) and here.__func__ is Flask.wsgi_app:
            chain.flasks.append(Mounted(owner, mount))
            return True
        if isinstance(here, Flask):
            if type(here).__call__ is not Flask.__call__:
                chain.layers.append(type(here).__call__)
            here = here.wsgi_app
        elif type(here) is DispatcherMiddleware:
            _unfold(here, mount, chain, until)
            here = here.app
        else:
            if type(here) not in HARMLESS:
                chain.layers.append(here)
            here = _inside(here)
    return False


def _inside(layer: object) -> Any:
    """What a middleware is around, by the attribute that such classes keep it in; `None` when that cannot be told."""
    held = getattr(layer, "__dict__", {})
    return next((held[name] for name in _NEXT if callable(held.get(name))), None)


def _unfold(dispatcher: DispatcherMiddleware, mount: str, chain: Chain, until: object) -> None:
    for prefix, app in dispatcher.mounts.items():
        below = Chain([], [], [])
        if _follow(app, mount + prefix, below, until):
            chain.layers += below.layers
            chain.flasks += below.flasks
            chain.wholes += below.wholes
        else:
            # Its own layers are part of what is judged as a whole.
            chain.wholes.append(Whole(dispatcher, prefix, mount + prefix))


class WholeMount:
    """A mounted application that is judged as one endpoint, whatever it does with the rest of the path."""

    def __init__(self, app: WSGIApplication, mount: str) -> None:
        self.app = app
        self.template = mount + REST

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = environ.get(KEY)
        if not isinstance(exchange, FlaskExchange):
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return []
        if exchange.decided:
            msg = "one request was dispatched twice"
            raise SealBrokenError(msg)
        exchange.look_anew(environ)
        exchange.decided = True
        method = environ["REQUEST_METHOD"]
        target = Target(
            key=key_of(method, self.template),
            method=method,
            template=self.template,
            endpoint=self.app,
            params={"path": environ.get("PATH_INFO", "").lstrip("/")},
        )
        try:
            passage = exchange.decide(lambda: target)
        except ClientGoneError as error:
            return exchange.cut_off(error)
        if isinstance(passage, Refused):
            return exchange.refuse(passage)
        return self.app(environ, start_response)
