"""What is judged is what is acted on: random requests through the spine, and a handler that reads the same bytes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode

from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.config.load import load
from afmiddleware.current import Action
from afmiddleware.drivers import run
from afmiddleware.extractors import call
from afmiddleware.fence import Fence
from afmiddleware.flow import admit
from afmiddleware.model.http import HttpFacts, Target
from afmiddleware.model.outcome import End
from afmiddleware.plan import Admission, Refused

POLICY = """
version: 1
service: random
ledger: memory
routes:
  - {route: POST /json, capability: random.json, amount: {from: body.amount}, recipient: {from: body.to}}
  - {route: POST /form, capability: random.form, amount: {from: form.amount}, recipient: {from: form.to}}
  - {route: POST /list, capability: random.list, amount: {sum: "body.items[*].price", times: "body.items[*].count"}}
  - {route: POST /rpc, protocol: jsonrpc, capability: "random.{method}", methods: {pay: {amount: {from: params.amount}}}}
rules: {allow: [random.*]}
"""

FENCE = Fence(load(POLICY))

CENTS = st.integers(0, 10**9)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)
EXTRA = st.dictionaries(
    st.sampled_from(["note", "ref", "é", "nested"]), TEXT | st.integers(-5, 5) | st.none(), max_size=3
)


def half_canonical(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., bool]], Callable[[], None]]:
    """A property of requests, at least half of which are to be canonical; the check says of each whether it was."""

    def decorate(check: Callable[..., bool]) -> Callable[[], None]:
        def test() -> None:
            seen: Counter[bool] = Counter()

            @given(st.tuples(*strategies))
            def one(values: tuple[Any, ...]) -> None:
                seen[check(*values)] += 1

            one()
            assert seen[True] * 2 >= seen.total() > 0

        return wraps_name(check, test)

    return decorate


def wraps_name(check: Callable[..., bool], test: Callable[[], None]) -> Callable[[], None]:
    test.__name__, test.__doc__ = check.__name__, check.__doc__
    return test


def amount_of(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


@st.composite
def amounts(draw: st.DrawFn) -> tuple[str, int | None]:
    """A JSON token and the cents that it means, `None` for one that must not be read."""
    cents = draw(CENTS)
    good = [f'"{amount_of(cents)}"', amount_of(cents), str(cents), f'"{cents}"']
    choice = draw(st.integers(0, 4))
    if choice < 4:
        return good[choice], cents if choice < 2 else cents * 100
    token = draw(
        st.sampled_from(
            [
                f"-{cents + 1}",
                f"{cents + 1}e2",
                f'"+{cents}"',
                f'" {cents}"',
                f'"0{cents}"',
                f'"{cents}.005"',
                f'"{cents:,}.0"' if cents > 999 else '"1,0"',
                "true",
                "null",
                f"[{cents}]",
                '"NaN"',
                '"１"',
            ]
        )
    )
    return token, None


class Io:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self.call = call
        self.commit = FENCE.commit
        self.post = FENCE.post
        self.resolve = FENCE.resolve

    def read_body(self, _cap: int) -> bytes:
        return self._body


def judged(path: str, body: bytes, media: str, query: str = "") -> Refused | Admission:
    headers = ((b"content-type", media.encode()), (b"content-length", str(len(body)).encode()))
    facts = HttpFacts(
        method="POST", path=path, raw_path=path.encode(), query=query.encode(), headers=headers, peer="203.0.113.9"
    )
    target = Target(key=f"POST {path}", method="POST", template=path)
    now = FENCE.clock()
    passage = run(admit(FENCE.plan, facts, lambda: target, now, FENCE.new_id), Io(body))
    assert isinstance(passage, (Refused, Admission))
    if isinstance(passage, Admission):
        for admission in (passage, *passage.others):
            FENCE.conclude(admission, Action(admission).outcome(200, End.OK))
    return passage


def minor(value: Any) -> Decimal:
    """What a handler that trusts the standard reader holds, in cents."""
    return Decimal(str(value)) * 100


@half_canonical(amounts(), TEXT, EXTRA, st.sampled_from([None, 2]), st.booleans(), st.booleans())
def test_a_json_event_is_what_the_handler_reads(
    amount: tuple[str, int | None], to: str, extra: dict[str, Any], indent: int | None, ascii_only: bool, twice: bool
) -> bool:
    token, cents = amount
    text = json.dumps({**extra, "to": to, "amount": "@"}, indent=indent, ensure_ascii=ascii_only).replace('"@"', token)
    twice = twice and cents is None
    if twice:
        text = text[:-1] + ', "amount": "1"}'
    passage = judged("/json", text.encode(), "application/json")
    canonical = cents is not None
    assert isinstance(passage, Admission) == canonical, passage
    if isinstance(passage, Admission):
        acted = json.loads(text.encode())
        assert passage.event is not None
        assert passage.event.amount is not None
        assert passage.event.amount.minor == cents == minor(acted["amount"])
        assert passage.event.recipient == acted["to"]
    return canonical


@half_canonical(
    CENTS,
    TEXT,
    st.lists(st.tuples(st.sampled_from(["note", "ref", "x", "y", "z", "q", "amount", "to"]), TEXT), max_size=2),
    st.booleans(),
)
def test_a_form_event_is_what_every_handler_reads(
    cents: int, to: str, more: list[tuple[str, str]], in_query: bool
) -> bool:
    fields = [("amount", amount_of(cents)), ("to", to), *([] if in_query else more)]
    query = urlencode(more) if in_query else ""
    body = "&".join(f"{name}={quote_plus(value)}" for name, value in fields).encode()
    canonical = not any(name in ("amount", "to") for name, _ in more)
    passage = judged("/form", body, "application/x-www-form-urlencoded", query)
    assert isinstance(passage, Admission) == canonical
    if isinstance(passage, Admission):
        acted = parse_qs(body.decode(), keep_blank_values=True)
        assert passage.event is not None
        assert passage.event.amount is not None
        assert {minor(value) for value in acted["amount"]} == {Decimal(passage.event.amount.minor)}
        assert set(acted["to"]) == {passage.event.recipient}
    return canonical


@half_canonical(
    st.lists(st.tuples(CENTS, st.integers(0, 999)), max_size=8),
    st.sampled_from([*["none"] * 7, "price", "count", "fraction"]),
)
def test_a_basket_is_the_sum_of_its_items(items: list[tuple[int, int]], fault: str) -> bool:
    listed: list[dict[str, Any]] = [{"price": amount_of(cents), "count": count} for cents, count in items]
    if items and fault in ("price", "count"):
        del listed[-1][fault]
    elif items and fault == "fraction":
        listed[-1]["count"] += 0.5
    canonical = fault == "none" or not items
    passage = judged("/list", json.dumps({"items": listed}).encode(), "application/json")
    assert isinstance(passage, Admission) == canonical
    if isinstance(passage, Admission):
        assert passage.event is not None
        assert passage.event.amount is not None
        acted = sum(minor(item["price"]) * item["count"] for item in listed)
        assert passage.event.amount.minor == acted
    return canonical


CALL = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0"),
        "method": st.sampled_from(["pay", "read", "list_all"]),
        "params": st.just({"amount": "1.25"}),
    },
    optional={"id": st.integers(0, 99) | st.sampled_from(["a", "b", "1"])},
)
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        1,
        None,
        [],
        {},
        {"jsonrpc": "2.0", "method": 5, "id": 9},
        {"jsonrpc": "2.0", "method": "Pay", "id": 9},
        {"jsonrpc": "2.0", "method": "a.pay", "id": 9},
        {"jsonrpc": "1.0", "method": "read", "id": 9},
        {"jsonrpc": "2.0", "method": "pay", "id": 9, "params": {}},
        {"jsonrpc": "2.0", "method": "read", "id": None},
    ]
)


@half_canonical(st.lists(CALL, min_size=1, max_size=5), st.none() | st.none() | ODD, st.booleans())
def test_the_events_of_a_batch_are_the_calls_a_server_makes(calls: list[Any], odd: Any, single: bool) -> bool:
    messages: list[Any] = calls if odd is None else [*calls, odd]
    document = messages[0] if single else messages
    made = [messages[0]] if single else messages
    ids = [str(one["id"]) for one in made if isinstance(one, dict) and "id" in one]
    canonical = all(one in calls for one in made) and len(ids) == len(set(ids))
    passage = judged("/rpc", json.dumps(document).encode(), "application/json")
    assert isinstance(passage, Admission) == canonical
    if isinstance(passage, Admission):
        events = [one.event for one in (passage, *passage.others)]
        assert [one.capability for one in events if one] == [f"random.{one['method']}" for one in made]
        paid = [125 if one["method"] == "pay" else None for one in made]
        assert [one.amount.minor if one and one.amount else None for one in events] == paid
        assert [one.call.id if one.call else None for one in (passage, *passage.others)] == [
            one.get("id") for one in made
        ]
    return canonical


NOISE = st.binary(max_size=80) | st.text('[]{}",:.0123456789 jsonrpcmethodidparams&=%;', max_size=80).map(str.encode)


@given(
    NOISE,
    st.sampled_from(["/json", "/form", "/list", "/rpc"]),
    st.sampled_from(["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]),
)
def test_no_bytes_do_anything_but_be_judged(body: bytes, path: str, media: str) -> None:
    passage = judged(path, body, media)
    if isinstance(passage, Refused):
        assert re.fullmatch(r"(request|amount|policy|currency)\.\w+", passage.verdict.code)
