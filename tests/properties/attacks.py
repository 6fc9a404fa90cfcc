"""Random requests for five endpoints: those as honest clients send them, and those with something odd about them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
from hypothesis import strategies as st

POLICY = """
version: 1
service: random
ledger: memory
routes:
  - {route: POST /pay, capability: act.pay, amount: {from: body.amount}, recipient: {from: body.to}}
  - {route: "GET /orders/{id}", capability: act.order, resource: "order:{path.id}"}
  - {route: "GET /files/{path:path}", capability: act.file, resource: "file:{path.path}"}
  - {route: POST /transfer, capability: act.transfer, amount: {from: query.amount, unit: minor}, recipient: {from: query.to}}
  - {route: POST /form, capability: act.form, amount: {from: form.amount}, recipient: {from: form.to}}
rules: {allow: [act.*]}
"""


class Sent(msgspec.Struct, frozen=True):
    """A request as it goes over the wire. `honest` says that it has to be admitted; `whole` that the body ends."""

    honest: bool
    method: str
    path: bytes
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    pieces: int = 1
    whole: bool = True


class Acted(msgspec.Struct, frozen=True):
    """What a handler acted on, and the event it was admitted for."""

    name: str
    method: str
    resource: str | None
    amount: Decimal | None
    to: str | None
    event: Any

    def differences(self) -> list[str]:
        """In what the act is not the event."""
        event = self.event
        if event is None:
            return ["nothing was admitted"]
        amount = None if event.amount is None else Decimal(event.amount.minor).scaleb(-event.amount.exponent)
        pairs = {
            "capability": (f"act.{self.name}", event.capability),
            "method": ("GET" if self.method == "HEAD" else self.method, event.method),
            "resource": (self.resource, event.resource),
            "amount": (self.amount, amount),
            "recipient": (self.to, event.recipient),
        }
        return [f"{what}: {mine!r} is not {judged!r}" for what, (mine, judged) in pairs.items() if mine != judged]


PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)
SAFE = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/\\#?\ufffd")
NAME = st.text(SAFE, min_size=1, max_size=12).filter(lambda text: text.partition(";")[0] not in {"", ".", ".."})
ODD = st.sampled_from(
    [
        b"..", b".", b"/", b"//", b"%2f", b"%2F", b"%5c", b"\\", b"%00", b"%0a", b"%0D", b"%09", b"%7f", b"%", b"%z", b"%4",
        b"%ff", b"%c0%af", b"%ed%a0%80", b"%ef%bf%bd", b"#", b"?", b";", b"%2e", b"%2E%2e", b"..;", b"%252f", b"\xc3\xa9", b" ",
        b"\t", b"\x85", b"%c2%85", b"%E2%80%A8", b"a", b"7", b"+", b":", b"@", b"~", b"*", b"pay", b"orders/7", b"files",
    ]
)  # fmt: skip


def encoded(text: str) -> bytes:
    return quote(text, safe="").encode()


@st.composite
def paths(draw: st.DrawFn, *, honest: bool) -> Sent:
    """An order, or a file."""
    method = draw(st.sampled_from(["GET", "HEAD"]))
    if honest:
        if draw(st.booleans()):
            return Sent(True, method, b"/orders/" + encoded(draw(NAME)))
        return Sent(
            True, method, b"/files/" + b"/".join(encoded(one) for one in draw(st.lists(NAME, min_size=1, max_size=3)))
        )
    start = draw(st.sampled_from([b"/orders/", b"/files/", b"/", b"", b"/pay", b"http://x/orders/"]))
    method = draw(st.sampled_from(["GET", "HEAD", "get", "POST", "DELETE", "FOO"]))
    return Sent(False, method, start + b"".join(draw(st.lists(ODD, max_size=4))))


CENTS = st.integers(0, 10**9)
TEXTS = [
    "-1",
    "+1",
    " 1",
    "1 ",
    "01",
    "1e2",
    "1E2",
    "1_000",
    "1,0",
    "1.",
    ".5",
    "0x10",
    "NaN",
    "Infinity",
    "",
    "１",
    "1.005",
    "1\n",
]


@st.composite
def amounts(draw: st.DrawFn, *, honest: bool) -> str:
    """A JSON token for an amount."""
    cents = draw(CENTS)
    major = f"{cents // 100}.{cents % 100:02d}"
    if honest:
        return draw(st.sampled_from([major, f'"{major}"', str(cents), f'"{cents}"']))
    odd = st.sampled_from([json.dumps(text) for text in TEXTS] + [text for text in TEXTS if text])
    return draw(
        odd
        | st.sampled_from(
            [
                "true",
                "null",
                "[1]",
                "{}",
                "-0",
                "70368744177664.01",
                "9007199254740993.0",
                "0.30000000000000001",
                "1" * 400,
            ]
        )
    )


EXTRA = st.dictionaries(
    st.sampled_from(["note", "Amount", "é", "amount ", "x"]), PLAIN | st.integers() | st.lists(st.none()), max_size=3
)
ODD_BODY = st.sampled_from(
    [
        "twice",
        "escaped twice",
        "mark",
        "utf-16",
        "surrogate",
        "cut",
        "behind",
        "control",
        "comment",
        "deep",
        "label",
        "half",
        "amount",
    ]
)
LABELS = ["text/plain", "application/json; charset=utf-7", "application/x-www-form-urlencoded"]
TWICE = {"twice": '"amount": 5000', "escaped twice": '"am\\u006funt": 5000'}


@st.composite
def payments(draw: st.DrawFn, *, honest: bool) -> Sent:
    """A payment in JSON."""
    to = json.dumps(draw(PLAIN), ensure_ascii=draw(st.booleans()))
    odd = "" if honest else draw(ODD_BODY)
    token = draw(amounts(honest=odd != "amount"))
    members = [
        f'"amount": {token}',
        f'"to": {to}',
        *(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in draw(EXTRA).items()),
    ]
    if odd in TWICE:
        members.insert(draw(st.integers(0, len(members))), TWICE[odd])
    if odd == "surrogate":
        members.append('"y": "\\ud83d"')
    if odd == "control":
        members.append('"y": "\x01"')
    if odd == "deep":
        members.append(f'"y": {"[" * 70}{"]" * 70}')
    text = "{" + ", ".join(draw(st.permutations(members))) + "}"
    text += {"behind": ' {"amount": 5000}', "comment": " // x"}.get(odd, "")
    body = text.encode("utf-16" if odd == "utf-16" else "utf-8-sig" if odd == "mark" else "utf-8")
    if odd == "cut":
        body = body[: draw(st.integers(0, len(body) - 1))]
    label = draw(st.sampled_from(LABELS)) if odd == "label" else "application/json"
    return Sent(
        honest,
        "POST",
        b"/pay",
        headers=((b"content-type", label.encode()),),
        body=body,
        pieces=draw(st.integers(1, 3)),
        whole=odd != "half",
    )


@st.composite
def transfers(draw: st.DrawFn, *, honest: bool) -> Sent:
    """A transfer, all of which stands in the query."""
    to = quote_plus(draw(PLAIN))
    pairs = [
        f"amount={draw(CENTS)}",
        f"to={to}",
        *(f"{quote_plus(key)}=1" for key in draw(st.lists(st.sampled_from(["a", "b c", "ä"]), max_size=2))),
    ]
    if not honest:
        more = [
            "amount=5000",
            "%61mount=5000",
            "amount",
            "amount=",
            "to=x",
            "a=%zz",
            "a=%ff",
            "#amount=1",
            "_method=GET",
            "a;amount=1",
            "&&",
            "amount=+1",
            "amount[]=1",
        ]
        pairs += draw(st.lists(st.sampled_from(more), min_size=1, max_size=2))
        if draw(st.booleans()):
            pairs = pairs[1:]
    return Sent(honest, "POST", b"/transfer", query="&".join(draw(st.permutations(pairs))).encode())


@st.composite
def forms(draw: st.DrawFn, *, honest: bool) -> Sent:
    """A payment in a form."""
    cents = draw(CENTS)
    pairs = [f"amount={cents // 100}.{cents % 100:02d}", f"to={quote_plus(draw(PLAIN))}"]
    query = b""
    if not honest:
        pairs += draw(
            st.lists(
                st.sampled_from(
                    [
                        "amount=5000",
                        "%61mount=1",
                        "amount",
                        "a=%ff",
                        "a=%zz",
                        "a;b",
                        "_method=PUT",
                        "to=x",
                        "é=1",
                        "a=1",
                    ]
                ),
                min_size=1,
                max_size=2,
            )
        )
        query = draw(st.sampled_from([b"", b"amount=5000", b"%61mount=1", b"to=x", b"x=1"]))
    label = (
        b"application/x-www-form-urlencoded"
        if honest
        else draw(
            st.sampled_from(
                [b"application/x-www-form-urlencoded"] * 3
                + [b"application/x-www-form-urlencoded; charset=utf-16", b"multipart/form-data; boundary=b"]
            )
        )
    )
    body = "&".join(draw(st.permutations(pairs))).encode()
    return Sent(
        honest,
        "POST",
        b"/form",
        query=query,
        headers=((b"content-type", label),),
        body=body,
        pieces=draw(st.integers(1, 3)),
    )
