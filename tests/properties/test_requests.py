"""Whatever is sent: what a handler acts on is what was admitted, and what honest clients send is admitted."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmiddleware.pep import asgi, wsgi
from afmiddleware_fastapi import install
from tests.properties import attacks, targets
from tests.properties.attacks import Acted, Sent

KINDS: dict[str, Callable[..., st.SearchStrategy[Sent]]] = {
    "paths": attacks.paths,
    "payments": attacks.payments,
    "transfers": attacks.transfers,
    "forms": attacks.forms,
}


@cache
def starlette() -> targets.Send:
    acted: list[Acted] = []
    app = targets.starlette(acted)
    install(app, fence=targets.fence())
    return targets.asgi(app, acted)


@cache
def any_asgi() -> targets.Send:
    acted: list[Acted] = []
    return targets.asgi(asgi.FenceMiddleware(targets.starlette(acted), fence=targets.fence()), acted)


@cache
def any_wsgi() -> targets.Send:
    acted: list[Acted] = []
    return targets.wsgi(wsgi.FenceMiddleware(targets.werkzeug(acted), fence=targets.fence()), acted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [starlette, any_asgi, any_wsgi], ids=lambda target: target.__name__)
def test_the_event_equals_the_act(target: Callable[[], targets.Send], kind: str) -> None:
    check(target(), kind)


def check(send: targets.Send, kind: str) -> None:
    """Of each two requests one is honest: it runs, once. And all that runs is what was admitted."""

    @settings(max_examples=200)
    @given(KINDS[kind](honest=True), KINDS[kind](honest=False))
    def two(honest: Sent, odd: Sent) -> None:
        assert [act.differences() for act in send(honest)] == [[]], honest
        assert [act.differences() for act in send(odd)] in ([], [[]]), odd

    two()
