"""The system checks and the commands: what is wrong is said with its id, before anything is served."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test.utils import modify_settings
from django.urls import path
from django.utils.decorators import decorator_from_middleware

from afmiddleware.declare import body, capability
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware_django.audit import listing
from tests.integrations.django import layers
from tests.integrations.django.fenced import HEAD, POLICY, Tried
from tests.integrations.django.project import FENCE, SEAL, project

HERE = "tests.integrations.django.layers"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
CACHE = "django.middleware.cache.FetchFromCacheMiddleware"


def view(_request: HttpRequest, **_values: Any) -> HttpResponse:
    return HttpResponse("")


class FileOf:
    """A project whose policy is a file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "fence.yaml"

    def write(self, policy: str = POLICY, ledger: str = "sqlite:///fence.db") -> dict[str, Any]:
        self.file.write_text(HEAD.format(ledger=ledger) + policy, encoding="utf-8")
        return {"AFMIDDLEWARE": {"policy": self.file}}


@pytest.fixture
def policy(tmp_path: Path) -> FileOf:
    return FileOf(tmp_path)


@pytest.fixture
def patterns(tried: Tried) -> list[Any]:
    return tried.patterns()


def ids(*, deploy: bool = False) -> list[str]:
    found = run_checks(tags=["afmiddleware"], include_deployment_checks=deploy)
    return sorted(str(one.id) for one in found)


def text_of(wanted: str, *, deploy: bool = False) -> str:
    [found] = [one for one in run_checks(tags=["afmiddleware"], include_deployment_checks=deploy) if one.id == wanted]
    return f"{found.msg} {found.hint}"


def test_a_good_project_has_nothing_to_say(policy: FileOf, patterns: list[Any]) -> None:
    with project(patterns, **policy.write()):
        assert ids(deploy=True) == []
    assert not (policy.file.parent / "fence.db").exists()


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (None, "is missing"),
        ("fence.yaml", "is a dict"),
        ({}, "names either a policy or a fence"),
        ({"policy": "a", "fence": "b"}, "names either a policy or a fence"),
        ({"policy": 7}, "is the path of the policy file"),
        ({"policy": "a", "urlconfs": "b"}, "is a list of import paths"),
        ({"polcy": "a", "fence": "b"}, "did you mean 'policy'?"),
    ],
)
def test_a_setting_that_is_wrong(said: Any, text: str, patterns: list[Any]) -> None:
    with project(patterns, AFMIDDLEWARE=said):
        assert ids(deploy=True) == ["afmiddleware.E001"]
        assert text in text_of("afmiddleware.E001")
        with pytest.raises(ConfigError, match="AFMIDDLEWARE"):
            WSGIHandler()


def test_every_mistake_of_the_policy_is_said_with_its_line(policy: FileOf, patterns: list[Any]) -> None:
    with project(patterns, **policy.write(POLICY.replace("a.pay", "A Pay").replace("total", "totl"))):
        assert ids() == ["afmiddleware.E002", "afmiddleware.E002"]
        assert all("fence.yaml:" in str(one.msg) for one in run_checks(tags=["afmiddleware"]))
        with pytest.raises(ConfigError) as raised:
            WSGIHandler()
        assert len(raised.value.problems) == 2


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ([], ["E003"]),
        ([FENCE, FENCE], ["E003"]),
        ([CSRF, FENCE], ["E004"]),
        ([f"{HERE}.Login", FENCE], ["E004"]),
        (["django.middleware.security.SecurityMiddleware", FENCE, CSRF], []),
        ([CACHE, FENCE], ["E005"]),
        ([FENCE, SEAL, CSRF], ["E006"]),
        ([FENCE, f"{HERE}.Login"], ["E007"]),
    ],
)
def test_the_order_of_the_middlewares(
    middleware: list[str], expected: list[str], policy: FileOf, patterns: list[Any]
) -> None:
    with project(patterns, MIDDLEWARE=middleware, **policy.write()):
        assert ids() == [f"afmiddleware.{one}" for one in expected]


def test_a_cache_inside_is_named_twice(policy: FileOf, patterns: list[Any]) -> None:
    with project(patterns, MIDDLEWARE=[FENCE, CACHE], **policy.write()):
        assert ids() == ["afmiddleware.E005", "afmiddleware.E007"]


@pytest.mark.parametrize("seal", [True, False])
def test_a_layer_that_the_policy_names_wants_the_seal(policy: FileOf, patterns: list[Any], seal: bool) -> None:
    said = policy.write(f"inner_middleware: [{HERE}.Login]\n{POLICY}")
    with project(patterns, MIDDLEWARE=[FENCE, f"{HERE}.Login", *([SEAL] if seal else [])], **said):
        assert ids() == ([] if seal else ["afmiddleware.W002"])
        WSGIHandler()


def test_a_middleware_on_one_view_is_a_layer(policy: FileOf, patterns: list[Any]) -> None:
    decorated = decorator_from_middleware(layers.Login)(view)
    with project([*patterns, path("new", decorated)], **policy.write()):
        assert ids() == ["afmiddleware.E007"]
        assert "layers.Login" in text_of("afmiddleware.E007")


def test_what_policy_and_project_disagree_on(policy: FileOf, patterns: list[Any]) -> None:
    @capability("a.new", amount=body("amount"))
    def new(_request: HttpRequest) -> HttpResponse:
        return HttpResponse("")

    @capability("a.wrong", amount=body("amount", unit="pounds"))
    def wrong(_request: HttpRequest) -> HttpResponse:
        return HttpResponse("")

    @capability("a.pay")
    def pay(_request: HttpRequest) -> HttpResponse:
        return HttpResponse("")

    odd: list[Any] = [
        path("pay", pay),
        path("wrong", wrong),
        path("new", new),
        *patterns[2:],
        path("any", view),
        object(),
    ]
    with project(odd, **policy.write()):
        found = ids(deploy=True)
        assert set(found) == {f"afmiddleware.{one}" for one in ("E008", "E009", "E010", "E011", "W001")}
        assert "POST /keep" in text_of("afmiddleware.E008")
        assert "GET" not in text_of("afmiddleware.W001", deploy=True)
        assert "/any" in text_of("afmiddleware.W001", deploy=True)
        assert not [one for one in ids() if one == "afmiddleware.W001"]
        with pytest.raises(ConfigError):
            WSGIHandler()


def test_a_urlconf_that_cannot_be_read(policy: FileOf) -> None:
    with project([], **policy.write(), ROOT_URLCONF="tests.nowhere"):
        assert "afmiddleware.E011" in ids()
        with pytest.raises(ConfigError, match="the URLconf cannot be read: ModuleNotFoundError"):
            WSGIHandler()


def test_another_charset_for_queries_stops_the_start(policy: FileOf, patterns: list[Any]) -> None:
    with project(patterns, **policy.write(), DEFAULT_CHARSET="utf-7"):
        assert ids() == ["afmiddleware.E011"]
        with pytest.raises(ConfigError, match="DEFAULT_CHARSET"):
            WSGIHandler()
    with project(patterns, **policy.write(), DEFAULT_CHARSET="UTF8"):
        assert ids() == []


def test_observe_is_said_at_deployment(policy: FileOf, patterns: list[Any]) -> None:
    with project(patterns, **policy.write("mode: observe\n" + POLICY)):
        assert ids(deploy=True) == ["afmiddleware.W003"]


def test_check_deploy_shows_it(policy: FileOf, patterns: list[Any]) -> None:
    said = io.StringIO()
    with project([*patterns, path("new", view)], **policy.write()):
        call_command("check", "--deploy", "--tag", "afmiddleware", stderr=said, stdout=said)
    assert "afmiddleware.W001" in said.getvalue()
    assert "/new" in said.getvalue()


def test_without_the_application_nothing_is_served(tried: Tried) -> None:
    without = modify_settings(INSTALLED_APPS={"remove": "afmiddleware_django"})
    with without, pytest.raises(ImproperlyConfigured), tried.door("wsgi"):
        pass


@pytest.fixture
def shared(tried: Tried) -> Iterator[Fence]:
    vars(layers)["shared"] = tried.fence
    yield tried.fence
    del vars(layers)["shared"]


@pytest.mark.parametrize("named", [f"{HERE}.shared", lambda: None])
def test_a_fence_may_be_named(named: Any, shared: Fence, patterns: list[Any]) -> None:
    told = named if isinstance(named, str) else (lambda: shared)
    with project(patterns, AFMIDDLEWARE={"fence": told}):
        assert ids(deploy=True) == []
        assert apps.get_app_config("afmiddleware_django").fence is shared  # type: ignore[attr-defined]


@pytest.mark.parametrize("named", ["tests.nowhere.fence", lambda: "a fence"])
def test_what_is_named_must_be_a_fence(named: Any, patterns: list[Any]) -> None:
    with project(patterns, AFMIDDLEWARE={"fence": named}), pytest.raises(ConfigError, match="AFMIDDLEWARE"):
        WSGIHandler()


def run(name: str, *args: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(name, *args, stdout=out, stderr=err)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_fence_check(policy: FileOf, patterns: list[Any]) -> None:
    with project(patterns, **policy.write()):
        code, out, err = run("fence_check")
        assert (code, err) == (0, "")
        assert "POST /pay" in out
        assert "a.pay" in out
    with project([*patterns, path("new", view)], **policy.write()):
        code, out, err = run("fence_check")
        assert (code, "/new" in err) == (1, True)
        assert len({line.rindex("  ") for line in out.splitlines()}) == 1
        code, out, _ = run("fence_check", "--json")
        told = json.loads(out)
        assert (code, told["ok"], [one["id"] for one in told["findings"]]) == (1, False, ["coverage.unmapped"])
    with project(patterns, MIDDLEWARE=[CSRF, FENCE], **policy.write()):
        assert run("fence_check")[0] == 1
    with project(patterns, **policy.write("nonsense: 1\n")):
        code, out, err = run("fence_check")
        assert (code, "fence.yaml:" in err) == (2, True)
        assert json.loads(run("fence_check", "--json")[1])["problems"]


def test_fence_verify(tmp_path: Path, kind: str) -> None:
    tried = Tried(tmp_path, ledger="sqlite:///fence.db")
    with tried.door(kind) as door:
        assert door.json("POST", "/pay", {"amount": "4.00"}).status == 200
        tried.fence.close()
        code, out, _ = run("fence_verify")
        assert code == 4
        assert "unanchored" in out
        with sqlite3.connect(tmp_path / "fence.db") as database:
            database.execute("UPDATE receipt SET body = CAST(replace(CAST(body AS TEXT), 'a.pay', 'a.pax') AS BLOB)")
        code, out, _ = run("fence_verify", "--json")
        assert (code, json.loads(out)["status"]) == (3, "tampered")
        (tmp_path / "fence.db").unlink()
        assert run("fence_verify")[0] == 5
        assert json.loads(run("fence_verify", "--json")[1])["status"] == "unreadable"
    with project([], AFMIDDLEWARE={"policy": tmp_path / "nowhere.yaml"}):
        assert run("fence_verify")[0] == 2


def test_the_audit_lists_what_is_there(patterns: list[Any], tried: Tried) -> None:
    with tried.door("wsgi", patterns) as door:
        assert [one.key for one in listing(door.app).endpoints] == [
            "POST /pay",
            "POST /keep",
            "GET /read/{id}",
            "GET /health",
        ]
    with pytest.raises(TypeError, match="no Django application"):
        listing(object())


def test_declared_capabilities_hold(tried: Tried, kind: str) -> None:
    @capability("a.new", amount=body("amount"))
    def new(_request: HttpRequest) -> HttpResponse:
        return HttpResponse("")

    made: Callable[..., type] = tried.view
    declared = capability("a.class", amount=body("amount"))(made("class"))
    with tried.door(kind, [*tried.patterns(), path("new", new), path("class", declared.as_view())]) as door:  # type: ignore[attr-defined]
        assert door.json("POST", "/new", {"amount": "4.00"}).status == 200
        assert door.json("POST", "/class", {"amount": "4.00"}).status == 200
        assert door.json("POST", "/new", {"amount": "93.00"}).code == "spend.exceeded"
    assert tried.spent() == 800
