"""Routes of the policy file become bindings, and requests to them become events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from afmiddleware.errors import ConfigError, MappingError
from afmiddleware.mapping.bindings import Binding, compile_bindings
from afmiddleware.mapping.event import request_digest, to_event
from afmiddleware.model.actor import Actor
from afmiddleware.model.http import HttpFacts, Target
from afmiddleware.model.money import Money
from afmiddleware.model.outcome import Settlement
from afmiddleware.model.tier import Tier

ACTOR = Actor(id="key:acct", tier=Tier.TOKEN)
JSON = (b"content-type", b"application/json")


def source(text: str, **more: str) -> SimpleNamespace:
    return SimpleNamespace(from_=text, **more)


def route(template: str = "/v1/bookings", **changes: Any) -> SimpleNamespace:
    values = {"method": "POST", "template": template, "public": False, "capability": "flights.book", "line": 3}
    return SimpleNamespace(**(values | changes))


def bindings(*routes: Any, payload: bool = False, currency: str | None = "USD") -> dict[str, Binding]:
    config: Any = SimpleNamespace(routes=routes, currency=currency, assets={"USDC": 6})
    return compile_bindings(config, lambda _capability: payload)


BOOK = route(
    resource="flight:{body.flight_id}",
    amount=source("body.price", unit="major"),
    currency=source("body.currency"),
    recipient=source("body.airline"),
    category="travel",
)
BODY = b'{"flight_id": "KL1", "price": 12.50, "currency": "USD", "airline": "acme"}'


def event(binding: Binding, body: bytes | None = None, *more: tuple[bytes, bytes], **params: object) -> Any:
    facts = HttpFacts(method="POST", path="/v1/bookings", headers=(JSON, *more))
    target = Target(key=binding.key, method="POST", template="/v1/bookings", params=params)
    return to_event(binding, facts, target, body, ACTOR, "test")


def test_an_event_carries_everything_the_mapping_promises() -> None:
    (binding,) = bindings(BOOK).values()
    assert (binding.key, binding.needs_body, binding.line) == ("POST /v1/bookings", True, 3)
    made = event(binding, BODY)
    assert made.capability == "flights.book"
    assert made.actor is ACTOR
    assert made.amount == Money(1250, "USD", 2)
    assert (made.resource, made.recipient, made.category, made.network) == ("flight:KL1", "acme", "travel", None)
    assert (made.environment, made.method, made.route) == ("test", "POST", "POST /v1/bookings")
    assert made.payload["flight_id"] == "KL1"


def test_a_fixed_price_reads_nothing() -> None:
    (binding,) = bindings(route(amount="0.02 USD")).values()
    assert not binding.needs_body
    assert event(binding).amount == Money(2, "USD", 2)


def test_the_default_currency_and_assets() -> None:
    (binding,) = bindings(route(amount=source("body.price"))).values()
    assert event(binding, b'{"price": "1.00"}').amount == Money(100, "USD", 2)
    (binding,) = bindings(route(amount=source("body.price"), currency="USDC")).values()
    assert event(binding, b'{"price": "1.000001"}').amount == Money(1000001, "USDC", 6)


def test_path_and_query_are_read_without_the_body() -> None:
    (binding,) = bindings(route("/v1/accounts/{id:int}", resource="account:{path.id}")).values()
    assert not binding.needs_body
    assert event(binding, id=7).resource == "account:7"


def test_a_condition_on_the_payload_needs_the_body() -> None:
    (binding,) = bindings(route(), payload=True).values()
    assert binding.needs_body
    assert event(binding, b'{"command": "ls"}').payload == {"command": "ls"}
    assert event(binding, b"").payload == {}
    for body in (b"[]", b'"x"', b"null"):
        with pytest.raises(MappingError) as caught:
            event(binding, body)
        assert caught.value.code == "request.ambiguous"


def test_a_list_can_be_read_by_index() -> None:
    (binding,) = bindings(route(recipient="{body[0].to}")).values()
    assert event(binding, b'[{"to": "acme"}]').recipient == "acme"


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{}", (), "amount.unresolvable"),
        (b"", (), "amount.unresolvable"),
        (b"", ((b"content-length", b"40"),), "request.ambiguous"),
        (BODY, ((b"content-length", b"4000"),), "request.ambiguous"),
        (BODY, ((b"content-encoding", b"gzip"),), "request.media_type"),
        (b"price=1", (), "request.ambiguous"),
        (b'{"price": 1, "price": 2}', (), "request.ambiguous"),
        (b" " * (1024 * 1024 + 1), (), "request.too_large"),
    ],
)
def test_bodies_that_cannot_be_judged(body: bytes, headers: Any, code: str) -> None:
    (binding,) = bindings(BOOK).values()
    with pytest.raises(MappingError) as caught:
        event(binding, body, *headers)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "media", [b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b", b"text/plain"]
)
def test_other_media_types_are_refused(media: bytes) -> None:
    (binding,) = bindings(BOOK).values()
    facts = HttpFacts(method="POST", path="/v1/bookings", headers=((b"content-type", media),))
    target = Target(key=binding.key, method="POST", template="/v1/bookings")
    with pytest.raises(MappingError) as caught:
        to_event(binding, facts, target, BODY, ACTOR)
    assert caught.value.code == "request.media_type"


def test_a_body_nobody_judges_is_not_parsed() -> None:
    (binding,) = bindings(route()).values()
    assert event(binding, b"\xff not json").payload == {}


def test_a_binding_that_needs_the_body_does_not_go_without() -> None:
    (binding,) = bindings(BOOK).values()
    with pytest.raises(ValueError, match="needs the body"):
        event(binding, None)


def test_a_public_route_has_no_capability() -> None:
    (binding,) = bindings(route(public=True, capability=None)).values()
    assert (binding.public, binding.capability, binding.needs_body) == (True, "", False)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, None),
        ("keep", dict.fromkeys(range(1, 6), Settlement.CAPTURE)),
        ({"4xx": "keep", "5xx": "release"}, {4: Settlement.CAPTURE, 5: Settlement.RELEASE}),
        ({"5xx": "unknown"}, {5: Settlement.UNKNOWN}),
    ],
)
def test_outcomes(said: Any, expected: Any) -> None:
    (binding,) = bindings(route(on_outcome=said)).values()
    assert binding.settles == expected


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        bindings(
            route("/a", amount=source("price")),
            route("/b", resource="{path.id}"),
            route("/c", capability="Not A Capability"),
            route("/d", amount="12"),
            route("/e", on_outcome={"4xx": "forget"}),
            route("/f"),
            route("/f"),
            currency=None,
        )
    assert [problem.split(":")[1].strip() for problem in caught.value.problems] == [
        "route POST /a",
        "route POST /b",
        "route POST /c",
        "route POST /d",
        "route POST /e",
        "route POST /f",
    ]


def test_an_amount_without_any_currency_is_a_problem() -> None:
    with pytest.raises(ConfigError, match="needs a currency"):
        bindings(route(amount=source("body.price")), currency=None)


def test_the_digest_binds_method_endpoint_path_query_and_body() -> None:
    def digest(body: bytes | None = b"{}", key: str = "POST /a", **changes: Any) -> str:
        values: dict[str, Any] = {"method": "POST", "path": "/a", "query": b"x=1"} | changes
        return request_digest(HttpFacts(**values), Target(key=key, method="POST", template="/a"), body)

    different = [
        digest(),
        digest(b""),
        digest(None),
        digest(b"{ }"),
        digest(key="POST /b"),
        digest(path="/b"),
        digest(query=b""),
        digest(method="PUT"),
    ]
    assert len(set(different)) == len(different)
    assert digest() == digest()
