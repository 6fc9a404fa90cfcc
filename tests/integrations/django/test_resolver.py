"""Which endpoint is judged: the one that Django matched, spelled as a policy spells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import include, path, re_path, resolve
from django.urls.resolvers import URLPattern, URLResolver
from django.utils import translation
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.generic import RedirectView
from django.views.static import serve

from afmiddleware.model.http import Target
from afmiddleware_django.resolver import Resolver, target_of
from afmiddleware_django.tree import leaves_of
from tests.integrations.django.project import configure, project

configure()

from django.conf.urls.i18n import i18n_patterns  # noqa: E402 (needs settings)
from rest_framework.decorators import api_view  # noqa: E402 (needs settings)
from rest_framework.response import Response  # noqa: E402
from rest_framework.routers import SimpleRouter  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework.viewsets import ViewSet  # noqa: E402


def view(_request: HttpRequest, *_args: Any, **_values: Any) -> HttpResponse:
    return HttpResponse("")


class Thing(View):
    def get(self, _request: HttpRequest, **_values: Any) -> HttpResponse:
        return HttpResponse("")

    def put(self, _request: HttpRequest, **_values: Any) -> HttpResponse:
        return HttpResponse("")


class OwnHead(Thing):
    def head(self, _request: HttpRequest, **_values: Any) -> HttpResponse:
        return HttpResponse("")


class OwnOptions(Thing):
    def options(self, request: HttpRequest, *_args: Any, **_values: Any) -> HttpResponse:
        return HttpResponse("")


class OwnDispatch(Thing):
    def dispatch(self, request: HttpRequest, *_args: Any, **_values: Any) -> HttpResponse:
        return HttpResponse("")


@method_decorator(csrf_exempt, name="dispatch")
class Exempt(Thing):
    pass


class OwnNotAllowed(Thing):
    def http_method_not_allowed(self, request: HttpRequest, *_args: Any, **_values: Any) -> HttpResponse:
        return HttpResponse("")


def strange(method: Any) -> Any:
    def run(*args: Any, **values: Any) -> Any:
        return method(*args, **values)

    return run


@method_decorator(strange, name="dispatch")
class Decorated(Thing):
    pass


class Api(APIView):
    def post(self, _request: Any, **_values: Any) -> Response:
        return Response({})


class Orders(ViewSet):
    def list(self, _request: Any) -> Response:
        return Response([])

    def destroy(self, _request: Any, pk: str = "") -> Response:
        return Response([])


@api_view(["POST"])
def called(_request: Any) -> Response:
    return Response({})


router = SimpleRouter()
router.register("orders", Orders, basename="order")

PATTERNS = [
    path("plain", view),
    path("number/<int:id>", view),
    path("rest/<path:rest>", view),
    path("list/", view),
    re_path(r"^old/(?P<id>[0-9]+)/$", view),
    re_path(r"^unnamed/([0-9]+)$", view),
    path("extra", view, {"mode": "fast"}),
    path("things/<id>", Thing.as_view()),
    path("heads", OwnHead.as_view()),
    path("options", OwnOptions.as_view()),
    path("dispatch", OwnDispatch.as_view()),
    path("not-allowed", OwnNotAllowed.as_view()),
    path("exempt", Exempt.as_view()),
    path("outside", csrf_exempt(Thing.as_view())),
    path("decorated", Decorated.as_view()),
    path("narrow", Thing.as_view(http_method_names=["put"])),
    path("posted", require_POST(view)),
    path("safe", require_safe(view)),
    path("two", require_http_methods(["GET", "PUT"])(require_http_methods(["PUT", "POST"])(view))),
    path("api/<int:id>", Api.as_view()),
    path("called", called),
    path("drf/", include(router.urls)),
    path("away", RedirectView.as_view(url="/plain")),
    path("outer/<where>/", include(([path("inner/", include(([path("x/<id>", view)], "in")))], "out"), namespace="o")),
    re_path(r"^v1/", include([re_path(r"^y/(?P<id>\d+)$", view), path("z/<slug:s>", view)])),
    path("admin/", admin.site.urls),
    re_path(r"^static/(?P<path>.*)$", serve, {"document_root": "."}),
]


@pytest.fixture(scope="module")
def resolver() -> Iterator[Resolver]:
    with project(PATTERNS):
        yield Resolver()


def judged(resolver: Resolver, method: str, place: str) -> Target | None:
    request = RequestFactory().generic(method, place)
    match = resolve(request.path_info)
    return target_of(resolver.place(request, match), request, match)


@pytest.mark.parametrize(
    ("method", "place", "key", "params"),
    [
        ("GET", "/plain", "GET /plain", {}),
        ("HEAD", "/plain", "GET /plain", {}),
        ("POST", "/plain", "POST /plain", {}),
        ("OPTIONS", "/plain", "OPTIONS /plain", {}),
        ("BREW", "/plain", "BREW /plain", {}),
        ("GET", "/number/7", "GET /number/{id:int}", {"id": 7}),
        ("GET", "/rest/a/b", "GET /rest/{rest:path}", {"rest": "a/b"}),
        ("GET", "/list/", "GET /list/", {}),
        ("GET", "/old/7/", "GET /old/{id}/", {"id": "7"}),
        ("GET", "/unnamed/7", "GET ^unnamed/([0-9]+)$", {}),
        ("GET", "/extra", "GET /extra", {"mode": "fast"}),
        ("PUT", "/things/7", "PUT /things/{id}", {"id": "7"}),
        ("HEAD", "/things/7", "GET /things/{id}", {"id": "7"}),
        ("HEAD", "/heads", "HEAD /heads", {}),
        ("OPTIONS", "/options", "OPTIONS /options", {}),
        ("DELETE", "/dispatch", "DELETE /dispatch", {}),
        ("DELETE", "/not-allowed", "DELETE /not-allowed", {}),
        ("DELETE", "/decorated", "DELETE /decorated", {}),
        ("PUT", "/exempt", "PUT /exempt", {}),
        ("PUT", "/outside", "PUT /outside", {}),
        ("PUT", "/narrow", "PUT /narrow", {}),
        ("POST", "/posted", "POST /posted", {}),
        ("HEAD", "/safe", "GET /safe", {}),
        ("PUT", "/two", "PUT /two", {}),
        ("POST", "/api/7", "POST /api/{id:int}", {"id": 7}),
        ("POST", "/called", "POST /called", {}),
        ("GET", "/drf/orders/", "GET /drf/orders/", {}),
        ("DELETE", "/drf/orders/7/", "DELETE /drf/orders/{pk}/", {"pk": "7"}),
        ("GET", "/outer/here/inner/x/7", "GET /outer/{where}/inner/x/{id}", {"where": "here", "id": "7"}),
        ("GET", "/v1/y/7", "GET /v1/y/{id}", {"id": "7"}),
        ("GET", "/v1/z/a-b", "GET /v1/z/{s:slug}", {"s": "a-b"}),
        ("POST", "/admin/login/", "POST /admin/{path:path}", {"path": "login/"}),
        ("HEAD", "/admin/auth/user/7/change/", "GET /admin/{path:path}", {"path": "auth/user/7/change/"}),
        ("GET", "/static/a/b.css", "GET /static/{path:path}", {"document_root": ".", "path": "a/b.css"}),
    ],
)
def test_what_is_judged(resolver: Resolver, method: str, place: str, key: str, params: dict[str, object]) -> None:
    target = judged(resolver, method, place)
    assert target is not None
    assert (target.key, target.method, dict(target.params)) == (key, key.partition(" ")[0], params)


@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("DELETE", "/things/7"),
        ("OPTIONS", "/things/7"),
        ("DISPATCH", "/things/7"),
        ("OPTIONS", "/exempt"),
        ("POST", "/outside"),
        ("GET", "/narrow"),
        ("HEAD", "/narrow"),
        ("GET", "/posted"),
        ("OPTIONS", "/posted"),
        ("POST", "/safe"),
        ("GET", "/two"),
        ("OPTIONS", "/api/7"),
        ("GET", "/api/7"),
        ("GET", "/called"),
        ("POST", "/drf/orders/"),
    ],
)
def test_what_django_answers_by_itself(resolver: Resolver, method: str, place: str) -> None:
    assert judged(resolver, method, place) is None


@pytest.mark.parametrize("default", [True, False])
def test_a_view_in_many_languages_is_one_endpoint(default: bool) -> None:
    patterns = [
        *i18n_patterns(path("pay/<int:id>", view), prefix_default_language=default),
        path(gettext_lazy("January"), view),
    ]
    languages = [("en", "English"), ("nl", "Nederlands"), ("de", "Deutsch")]
    with project(patterns, USE_I18N=True, LANGUAGE_CODE="en", LANGUAGES=languages):
        resolver = Resolver()
        keys = set()
        for language, place in [("en", "/en/pay/7" if default else "/pay/7"), ("nl", "/nl/pay/7"), ("de", "/de/pay/7")]:
            with translation.override(language):
                target = judged(resolver, "POST", place)
                assert target is not None
                keys.add((target.key, target.params["id"]))
        assert keys == {("POST /{language}/pay/{id:int}", 7)}
        months = set()
        for language, month in [("en", "January"), ("nl", "januari"), ("de", "Januar")]:
            with translation.override(language):
                target = judged(resolver, "POST", f"/{month}")
                assert target is not None
                months.add(target.key)
        assert months == {"POST /January"}


def test_another_urlconf_is_another_place() -> None:
    pay = [path("pay", view)]
    with project(pay) as root, project(pay) as other, project(pay) as chosen:
        resolver = Resolver((other,))
        request = RequestFactory().post("/pay")
        found = {}
        for name in (chosen, other, root):
            request.urlconf = name
            match = resolve("/pay", name)
            target = target_of(resolver.place(request, match), request, match)
            assert target is not None
            found[name] = target.key
    assert found == {chosen: "POST /pay", other: f"POST //{other}/pay", root: f"POST //{root}/pay"}
    assert [place.template for place in resolver.places] == ["pay", f"//{other}/pay"]


def test_a_node_of_an_unknown_kind_is_named() -> None:
    class Own(URLPattern):
        def resolve(self, path: str) -> Any:
            return super().resolve(path)

    class Fork(URLResolver):
        def resolve(self, path: str) -> Any:
            return super().resolve(path)

    honest = path("a", view)
    forked = path("b/", include([path("c", view)]))
    nodes = [honest, Own(honest.pattern, view), Fork(forked.pattern, forked.urlconf_name), object()]
    with project(nodes) as urlconf:
        first, _ = leaves_of(urlconf)
    assert [leaf.node.rpartition(".")[2] for leaf in first] == ["", "Own", "Fork", "object"]
