"""Declarations on Django's and REST framework's views, in any order of decorators."""

from __future__ import annotations

from typing import Any

import pytest

from afmiddleware import capability
from afmiddleware.declare import declared
from tests.integrations.django.project import configure

configure()

from django.utils.decorators import method_decorator  # noqa: E402 (needs settings)
from django.views import View  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from django.views.decorators.http import require_POST  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework.viewsets import ViewSet  # noqa: E402

MARK = capability("a.b")


def fresh() -> Any:
    def view(request: Any) -> None: ...

    return view


class Method(APIView):
    @capability("a.b")
    def post(self, request: Any) -> None: ...


class Decorated(View):
    @method_decorator(csrf_exempt)
    @capability("a.b")
    def post(self, request: Any) -> None: ...


@method_decorator(csrf_exempt, name="dispatch")
@capability("a.b")
class Marked(View):
    def post(self, request: Any) -> None: ...


class Dispatched(View):
    @capability("a.b")
    def dispatch(self, request: Any) -> Any: ...


class Things(ViewSet):
    @capability("a.b")
    def create(self, request: Any) -> None: ...

    def list(self, request: Any) -> None: ...


VIEWS: dict[str, Any] = {
    "a function": MARK(fresh()),
    "below decorators": csrf_exempt(require_POST(MARK(fresh()))),
    "between decorators": csrf_exempt(MARK(require_POST(fresh()))),
    "above decorators": MARK(csrf_exempt(require_POST(fresh()))),
    "below api_view": api_view(["POST"])(MARK(fresh())),
    "above api_view": MARK(api_view(["POST"])(fresh())),
    "below api_view and a decorator": csrf_exempt(api_view(["POST"])(MARK(fresh()))),
    "a method": Method.as_view(),
    "a decorated method": csrf_exempt(Decorated.as_view()),
    "a class": Marked.as_view(),
    "the dispatch of a class": Dispatched.as_view(),
    "a view set": Things.as_view({"post": "create", "get": "list"}),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_found(view: Any) -> None:
    found = declared(view, "POST")
    assert found is not None
    assert found.fields == {"capability": "a.b"}


@pytest.mark.parametrize("name", ["a method", "a view set"])
def test_a_method_speaks_for_itself_only(name: str) -> None:
    assert declared(VIEWS[name], "GET") is None
    assert declared(api_view(["POST"])(fresh()), "POST") is None
