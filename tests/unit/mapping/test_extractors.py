"""What extractors read, and what they refuse to read."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from afmiddleware.errors import GrammarError, MappingError
from afmiddleware.grammar.paths import MISSING, look_up, parse_path, parse_source, parse_template
from afmiddleware.mapping.body import parse_json
from afmiddleware.mapping.extract import compile_amount, compile_source, compile_text
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.money import Money

EXPONENTS = {"USD": 2, "JPY": 0, "BHD": 3, "USDC": 6}


def view(body: bytes | None = None, *, query: bytes = b"", headers: Any = (), **params: object) -> RequestView:
    document = MISSING if body is None else parse_json(body)
    return RequestView(HttpFacts(method="POST", path="/", query=query, headers=headers), params, document)


def code_of(call: Any, *arguments: object) -> str:
    with pytest.raises(MappingError) as caught:
        call(*arguments)
    return caught.value.code


# The first column is what the body says; the second the minor units, or None where it must be refused.
AMOUNTS = [
    ("5000", 500000),
    ("0", 0),
    ("12.5", 1250),
    ("12.50", 1250),
    ("0.01", 1),
    ('"5000"', 500000),
    ('"5000.5"', 500050),
    ('"0"', 0),
    ("90071992547409", 9007199254740900),
    ("9007199254740992", None),
    ("90071992547410.00", None),
    ("-1", None),
    ("-0.5", None),
    ("5e3", None),
    ("5E3", None),
    ("5000.000", None),
    ("5000.99999", None),
    ("5000.00000000000000000001", None),
    ("1e400", None),
    ("18446744073709551616", None),
    ("1" * 4000, None),
    ("true", None),
    ("false", None),
    ("null", None),
    ("[5000]", None),
    ('{"value": 5000}', None),
    ('""', None),
    ('"+5000"', None),
    ('"-5000"', None),
    ('"05000"', None),
    ('" 5000"', None),
    ('"5000 "', None),
    ('"5000\\n"', None),
    ('"\\u20035000"', None),
    ('"5_000"', None),
    ('"5,000"', None),
    ('"５０００"', None),
    ('"٥٠٠٠"', None),
    ('"5e3"', None),
    ('"5000."', None),
    ('".5"', None),
    ('"0x1388"', None),
    ('"\\u22125000"', None),
    ('"5000\\u0000"', None),
    ('"NaN"', None),
    ('"Infinity"', None),
    ('"1e400"', None),
    ('"5000 USD"', None),
]


@pytest.mark.parametrize(("text", "minor"), AMOUNTS, ids=[text[:30] for text, _ in AMOUNTS])
def test_amounts(text: str, minor: int | None) -> None:
    read, _ = compile_amount("body.amount", "major", "USD", EXPONENTS)
    request = view(b'{"amount": %s}' % text.encode())
    if minor is None:
        assert code_of(read, request) == "amount.unresolvable"
    else:
        assert read(request) == Money(minor, "USD", 2)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("999999999.123456", "USDC", 999999999123456),
        # A double holds another number than this text says (...002), so a handler would; as a text it is exact.
        ("8999999999.740001", "USDC", None),
        ('"8999999999.740001"', "USDC", 8999999999740001),
        ("8999999999.740002", "USDC", 8999999999740002),
        ("5", "JPY", 5),
        ("5.0", "JPY", None),
        ('"5.0"', "JPY", None),
        ("1.234", "BHD", 1234),
    ],
)
def test_amounts_by_currency(text: str, currency: str, minor: int | None) -> None:
    read, _ = compile_amount("body.amount", "major", currency, EXPONENTS)
    request = view(b'{"amount": %s}' % text.encode())
    if minor is None:
        assert code_of(read, request) == "amount.unresolvable"
    else:
        assert read(request).minor == minor


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("1250", 1250),
        ('"1250"', 1250),
        ("0", 0),
        ("1250.0", None),
        ('"12.50"', None),
        ("999999999999999", 10**15 - 1),
        ("9007199254740992", None),
    ],
)
def test_amounts_in_minor_units(text: str, minor: int | None) -> None:
    read, _ = compile_amount("body.amount", "minor", "USD", EXPONENTS)
    request = view(b'{"amount": %s}' % text.encode())
    if minor is None:
        assert code_of(read, request) == "amount.unresolvable"
    else:
        assert read(request).minor == minor


@pytest.mark.parametrize(
    ("currency", "expected"),
    [('"USD"', "USD"), ('"USDC"', "USDC"), ('"usd"', None), ('"XXX"', None), ("1", None), ("null", None), ("[]", None)],
)
def test_currency_from_the_request(currency: str, expected: str | None) -> None:
    read, sources = compile_amount("body.amount", "major", "body.currency", EXPONENTS)
    assert [source.label for source in sources] == ["body.amount", "body.currency"]
    request = view(b'{"amount": 5, "currency": %s}' % currency.encode())
    if expected is None:
        assert code_of(read, request) == "amount.unresolvable"
    else:
        assert read(request).currency == expected


def test_an_absent_currency_or_amount_is_refused() -> None:
    read, _ = compile_amount("body.amount", "major", "body.currency", EXPONENTS)
    for request in (view(b'{"amount": 5}'), view(b'{"currency": "USD"}'), view(b"[]"), view()):
        assert code_of(read, request) == "amount.unresolvable"


def test_refusals_do_not_quote_the_value() -> None:
    read, _ = compile_amount("body.amount", "major", "USD", EXPONENTS)
    with pytest.raises(MappingError) as caught:
        read(view(b'{"amount": "s3cret"}'))
    assert "s3cret" not in str(caught.value)
    assert "body.amount" in caught.value.detail


QUERIES = [
    (b"amount=5", "5"),
    (b"x=1&amount=5&y=2", "5"),
    (b"%61mount=5", "5"),
    (b"amount=%35", "5"),
    (b"amount=a+b", "a b"),
    (b"amount=a%2Bb", "a+b"),
    (b"amount=a%26b", "a&b"),
    (b"amount=%C3%A9", "é"),
    (b"amount=a=b", "a=b"),
    (b"amount=5;amount=6", "5;amount=6"),
    (b"Amount=5", None),
    (b"amount[]=5", None),
    (b"", None),
    (b"amount", ""),
    (b"&&amount=5&", "5"),
]


@pytest.mark.parametrize(("query", "value"), QUERIES)
def test_query_parameters(query: bytes, value: str | None) -> None:
    assert view(query=query).query("amount") == value


@pytest.mark.parametrize(
    "query",
    [
        b"amount=1&amount=5000",
        b"amount=1&%61mount=5000",
        b"amount=1&amount",
        b"amount=%zz",
        b"amount=5%",
        b"amount=%FF",
        b"%zz=1&amount=5",
        b"amount=\xc3\xa9",
    ],
)
def test_query_parameters_in_doubt_are_refused(query: bytes) -> None:
    assert code_of(view(query=query).query, "amount") == "request.ambiguous"


def test_what_is_not_read_is_not_refused() -> None:
    assert view(query=b"amount=5&q=100%&tag=a&tag=b").query("amount") == "5"


def test_headers_are_read_once() -> None:
    once = view(headers=((b"x-amount", b"5"),))
    assert once.header("x-amount") == "5"
    assert once.header("x-other") is None
    assert code_of(view(headers=((b"x-amount", b"5"), (b"x-amount", b"6"))).header, "x-amount") == "request.ambiguous"
    assert code_of(view(headers=((b"x-amount", b"\xe9"),)).header, "x-amount") == "request.ambiguous"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("body.a", 1),
        ("body.b.c[1].d", "x"),
        ("body.b.c[9]", MISSING),
        ("body.b.c.d", MISSING),
        ("body.a.b", MISSING),
        ("body.n", None),
        ("body.zz", MISSING),
        ("query.q", "5"),
        ("query.zz", MISSING),
        ("path.id", 7),
        ("path.zz", MISSING),
        ("header.X-To", "acme"),
        ("header.x-zz", MISSING),
    ],
)
def test_sources(source: str, value: object) -> None:
    request = view(
        b'{"a": 1, "b": {"c": [0, {"d": "x"}]}, "n": null}', query=b"q=5", headers=((b"x-to", b"acme"),), id=7
    )
    assert compile_source(parse_source(source))(request) == value


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("travel", "travel"),
        ("flight:{body.flight_id}", "flight:KL1"),
        ("{body.flight_id}", "KL1"),
        ("{body.flight_id}/{body.seat}!", "KL1/12!"),
        ("order:{path.id}", "order:7"),
        ("{path.uuid}", "12345678-1234-5678-1234-567812345678"),
        ("to {query.to}", "to acme inc"),
    ],
)
def test_templates(template: str, value: str) -> None:
    read, _ = compile_text(template)
    uuid = UUID("12345678-1234-5678-1234-567812345678")
    assert read(view(b'{"flight_id": "KL1", "seat": 12}', query=b"to=acme+inc", id=7, uuid=uuid)) == value


@pytest.mark.parametrize(
    "value",
    [
        '""',
        "null",
        "true",
        "1.5",
        "[]",
        "{}",
        "9007199254740992",
        '"a\\nb"',
        '"a\\u0000"',
        '"\\u0085"',
        '"%s"' % ("x" * 513),
    ],
)
def test_values_that_cannot_stand_in_a_template(value: str) -> None:
    for template in ("{body.to}", "acct:{body.to}/{body.ok}"):
        read, _ = compile_text(template)
        assert code_of(read, view(b'{"ok": "x", "to": %s}' % value.encode())) == "amount.unresolvable"


def test_an_absent_value_in_a_template_is_refused() -> None:
    read, _ = compile_text("acct:{body.to}")
    assert code_of(read, view(b"{}")) == "amount.unresolvable"
    assert code_of(read, view()) == "amount.unresolvable"


def test_one_value_cannot_pass_for_two() -> None:
    read, _ = compile_text("{body.bank}/{body.account}")
    assert read(view(b'{"bank": "b", "account": "x/y"}')) == "b/x/y"
    assert code_of(read, view(b'{"bank": "b/x", "account": "y"}')) == "amount.unresolvable"


@pytest.mark.parametrize(
    "text", ["", "{", "a{body.x", "a}b", "{body.x}{body.y}", "{}", "{cookie.sid}", "{body.}", "{body.a..b}"]
)
def test_templates_that_are_not(text: str) -> None:
    with pytest.raises(GrammarError):
        compile_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "price",
        "body",
        "body.",
        "body.a[",
        "body.a[01]",
        "body.a[-1]",
        "body.a b",
        "form",
        "form.",
        "form[0]",
        "query[0].a",
        "params.a",
        "cookie.a b",
        "cookie.sessionid",
        "cookie.X-CSRF-Token",
        "body.a[*",
        "body.a[**]",
        "header.a_b",
        "header.Authorization",
        "header.cookie",
    ],
)
def test_sources_that_are_not(text: str) -> None:
    with pytest.raises(GrammarError):
        parse_source(text)


def test_paths() -> None:
    assert parse_path("items[0][12].price") == ("items", 0, 12, "price")
    assert parse_source("body[0][1].to").path == (0, 1, "to")
    assert [parse_source(text).label for text in ("body[0].to", "header.X-To")] == ["body[0].to", "header.x-to"]
    assert parse_template("a{body.x}b")[0] == "a"
    assert look_up(MappingProxyType({"a": ({"b": 1},)}), ("a", 0, "b")) == 1
    assert look_up(SimpleNamespace(a=1), ("a",)) is MISSING
    with pytest.raises(GrammarError):
        compile_amount("body.amount", "cents", "USD", EXPONENTS)
