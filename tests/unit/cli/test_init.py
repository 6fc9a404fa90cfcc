"""`afmiddleware init`: what is written for no application, and what the packs of rules decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from afmiddleware.cli import main
from afmiddleware.cli.packs import PACKS
from afmiddleware.cli.starter import Guess, compose, lines_of
from afmiddleware.config.load import load
from afmiddleware.mapping.coverage import Endpoint

CASES: dict[str, list[Any]] = yaml.safe_load(Path(__file__).with_name("packs.yaml").read_text("utf-8"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFM_POLICY", raising=False)
    return tmp_path


def init(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["init", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("pack", list(PACKS))
def test_a_pack_decides_as_its_cases_say(pack: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init("--pack", pack) == 0
    (here / "cases.yaml").write_text(yaml.safe_dump({"cases": CASES[pack]}), "utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["test", "cases.yaml"])
    captured = capsys.readouterr()
    assert (ended.value.code, captured.err) == (0, "")
    assert captured.out.endswith(f"{len(CASES[pack])} of {len(CASES[pack])} cases are as expected.\n")


@pytest.mark.parametrize("pack", list(PACKS))
def test_check_has_nothing_to_say_of_a_pack(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert init("--pack", pack) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["check", "--strict"])
    assert (ended.value.code, capsys.readouterr().err) == (0, "")


def test_all_packs_stand_beside_each_other(here: Path) -> None:
    assert init(*(word for pack in PACKS for word in ("--pack", pack))) == 0
    assert len(load((here / "fence.yaml").read_text("utf-8")).rules.deny) == 8


@pytest.mark.parametrize("there", ["file", "link", "folder"])
def test_nothing_is_overwritten(here: Path, there: str, capsys: pytest.CaptureFixture[str]) -> None:
    if there == "file":
        (here / "fence.yaml").write_text("mine", "utf-8")
    elif there == "link":
        (here / "fence.yaml").symlink_to("nowhere")
    else:
        (here / "fence.yaml").mkdir()
    assert init("--pack", "readonly") == 2
    assert ("is a directory" if there == "folder" else "is not overwritten") in capsys.readouterr().err
    assert not (here / "nowhere").exists()
    if there == "file":
        assert (here / "fence.yaml").read_text("utf-8") == "mine"


def test_something_has_to_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert init() == 2
    assert "name an application" in capsys.readouterr().err


def test_an_application_nobody_knows_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "plain_app.py").write_text("def app(environ, start_response): ...\n", "utf-8")
    assert init("--app", "plain_app:app") == 2
    assert "no adapter knows" in capsys.readouterr().err
    assert not (here / "fence.yaml").exists()


def at(method: str, template: str, **more: Any) -> Endpoint:
    return Endpoint(method=method, template=template, name="h", **more)


@pytest.mark.parametrize(
    ("endpoint", "capability"),
    [
        (at("GET", "/v1/flights"), "flights.read"),
        (at("POST", "/api/v2/Bookings/{id:int}/cancel"), "bookings.cancel.create"),
        (at("PUT", "/users/<int:id>"), "users.update"),
        (at("DELETE", "/"), "root.delete"),
        (at("PATCH", "/{a}"), "root.update"),
        (at("GET", "/docs-of-people"), "docs_of_people.read"),
        (at("GET", "/healthy"), "healthy.read"),
    ],
)
def test_capabilities_are_named_by_path_and_method(endpoint: Endpoint, capability: str) -> None:
    [line] = lines_of([endpoint], None)
    assert (line.route, line.capability) == (f"{endpoint.method} {endpoint.template}", capability)


@pytest.mark.parametrize(
    "template", ["/docs", "/redoc", "/openapi.json", "/static/{path:path}", "/health", "/healthz/"]
)
def test_what_is_proposed_as_public_is_marked(template: str) -> None:
    lines = lines_of([at("GET", template), at("POST", template)], None)
    assert [bool(line.capability) for line in lines] == [False, True]
    assert f'{{route: "GET {template}", public: true}}      # REVIEW' in compose("s", lines)


def test_a_route_of_django_is_spelled_as_in_every_policy() -> None:
    lines = lines_of([at("*", "health"), at("DELETE", "v1/orders/<str:id>"), at("GET", r"^a/(?P<b>[0-9]+)$")], None)
    assert [(line.route, line.capability) for line in lines] == [
        ("GET /health", ""),
        ("POST /health", "health.create"),
        ("DELETE /v1/orders/{id}", "orders.delete"),
        ("GET /a/{b}", "a.read"),
    ]


def test_what_looks_like_a_refund_is_not_left_as_spending() -> None:
    document = {"paths": {"/refunds": body(["amount"], amount={})["paths"]["/pay/{id}"]}} | {
        "components": body(["amount"], amount={})["components"]
    }
    text = compose("s", lines_of([at("POST", "/refunds")], document))
    assert "amount: {from: body.amount}      # REVIEW: counts as spent; for a refund add refunds: {of: ...}" in text
    assert (
        "identity: verified, max_amount: 50 USD}      # REVIEW: remove the # to open it; API keys are `token`" in text
    )


def test_an_endpoint_of_any_method_is_read_and_created() -> None:
    assert [line.route for line in lines_of([at("*", "/x"), at("*", "/m/{path}", kind="mount")], None)] == [
        "GET /x",
        "POST /x",
        "GET /m/{path}",
    ]
    assert lines_of([at("OPTIONS", "/x"), at("WEBSOCKET", "/w", kind="websocket")], None) == []


def body(required: list[str], **properties: Any) -> dict[str, Any]:
    schema = {"properties": properties, "required": required}
    operation = {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/P"}}}}}
    return {"paths": {"/pay/{id}": {"post": operation}}, "components": {"schemas": {"P": schema}}}


@pytest.mark.parametrize(
    ("document", "guess"),
    [
        (
            body(["amount", "currency", "to"], amount={}, currency={}, to={}),
            Guess("body.amount", False, "body.currency", "body.to", "optional"),
        ),
        (
            body(["price"], price={}, currency_code={}),
            Guess("body.price", False, "body.currency_code", "", "optional", omitted=True),
        ),
        (body([], currency={}), Guess()),  # a currency of nothing
        (
            {
                "paths": {
                    "/pay/{id}": {
                        "post": {"parameters": [{"in": "header", "name": "Idempotency-Key", "required": True}]}
                    }
                }
            },
            Guess(idempotency="required"),
        ),
        (
            {"paths": {"/pay/{id}": {"post": {"parameters": [{"in": "header", "name": "idempotency-key"}]}}}},
            Guess(idempotency="optional"),
        ),
        (body(["amount_cents"], amount_cents={}, amount={}), Guess("body.amount_cents", True, "", "", "optional")),
        (
            body(["amount_cents", "amount"], amount={}, amount_cents={}),
            Guess("body.amount_cents", True, "", "", "optional"),
        ),
        (body([], amount={}), Guess()),  # what may be left out cannot be promised
        (body(["count"], count={}), Guess()),
        (
            {"paths": {"/pay/{id}": {"post": {"parameters": [{"in": "query", "name": "Amount", "required": True}]}}}},
            Guess("query.Amount", idempotency="optional"),
        ),
        (
            {
                "paths": {
                    "/pay/{id}": {"post": {"requestBody": 5, "parameters": ["x", {"in": "header", "name": "amount"}]}}
                }
            },
            Guess(),
        ),
        (None, Guess()),
        ({"paths": []}, Guess()),
    ],
)
def test_money_is_guessed_from_a_description_and_marked(document: Any, guess: Guess) -> None:
    lines = lines_of([at("POST", "/pay/{id:int}"), at("GET", "/pay/{id:int}")], document)
    assert [line.guess for line in lines] == [guess, Guess()]
    text = compose("s", lines)
    config = load(text)
    assert (config.routes[0].amount is None) == (not guess.amount)
    assert (config.routes[0].currency is None) == (not guess.currency)
    assert config.routes[0].idempotency == (guess.idempotency or None)
    assert all("REVIEW" in line for line in text.splitlines() if "{from:" in line)


def test_a_currency_that_may_be_left_out_is_marked_as_needed() -> None:
    marked = [
        compose("s", lines_of([at("POST", "/pay/{id:int}")], body(required, price={}, currency={})))
        for required in (["price"], ["price", "currency"])
    ]
    assert ["a request without it is refused" in text for text in marked] == [True, False]


def test_what_is_written_with_a_pack_agrees_with_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = body(["amount"], amount={})
    document["paths"] = {"/payments/{id}": document["paths"]["/pay/{id}"]}
    lines = lines_of([at("POST", "/payments/{id:int}"), at("GET", "/payments"), at("GET", "/shops")], document)
    text = compose("s", lines, packs=[PACKS["payments"]])
    allow = {str(one.capability): one.identity for one in load(text).rules.allow}
    assert (allow["payments.read"], allow["shops.read"]) == ("verified", "token")
    assert "daily" not in [one.name for one in load(text).limits]
    assert "daily" in [one.name for one in load(compose("s", lines)).limits]
    (here / "fence.yaml").write_text(text, "utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["check", "--strict"])
    assert (ended.value.code, capsys.readouterr().err) == (0, "")


def test_reads_are_open_to_anybody_only_when_asked() -> None:
    lines = lines_of([at("GET", "/x"), at("POST", "/x")], None)
    closed = load(compose("s", lines)).rules.allow
    assert [(one.capability, one.identity) for one in closed] == [("x.read", "token")]
    opened = load(compose("s", lines, anonymous_reads=True)).rules.allow
    assert [(one.capability, one.identity) for one in opened] == [("x.read", None)]


def test_where_nothing_reads_everything_is_closed_and_the_file_is_whole() -> None:
    text = compose("s", lines_of([at("POST", "/x")], None))
    assert load(text).rules.allow == ()
    opened = text.replace("# allow:", "allow:").replace("    # -", "    -")
    assert [one.capability for one in load(opened).rules.allow] == ["x.create"]
