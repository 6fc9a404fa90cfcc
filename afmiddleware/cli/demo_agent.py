"""The agent of `afmiddleware demo`: what it asks of the shop over HTTP, and what a good fence answers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

PRICE: Final = "5.00"
HOUR_CAP: Final = 5000
"""The rolling cap of the sample policy, in cents: the window is to stop spending exactly there."""
MOST_SPENT: Final = 8000
MOST_SEARCHES: Final = 15
_OK: Final = 200


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the agent did: what was expected of the fence and what was seen. Both are short texts."""

    name: str
    request: str
    expected: str
    seen: str
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the fence did what was expected."""
        return self.expected == self.seen


class Agent:
    """Drives the shop through `client`. `token` mints a JWT for a subject, `api_key` is one of tier token."""

    def __init__(self, client: httpx.Client, api_key: str, token: Callable[[str], str]) -> None:
        self._client = client
        self._key = {"authorization": f"Bearer {api_key}"}
        self._jwt = {"authorization": f"Bearer {token('agent-7')}"}
        self.budget: dict[str, int] = {}
        """The last `Agent-Budget` seen: what remains under each limit, in cents."""

    def steps(self) -> Iterator[Step]:
        """Take every step in order."""
        yield self._one("search, anonymous", "GET", "/v1/flights", {}, "200")
        yield self._challenged()
        yield self._book("book with an API key", self._key, PRICE, "403 identity.tier")
        yield self._book("book with a JWT", self._jwt, PRICE, "200")
        yield self._book("book over the action cap", self._jwt, "60.00", "403 amount.over_action_cap")
        yield self._given_back()
        yield self._until_the_window_stops()
        yield self._until_the_rate_stops()
        twice = b'{"flight_id": "AF1", "price": "1.00", "price": "40.00", "currency": "USD", "airline": "AF"}'
        yield self._one(
            "book with a duplicate JSON key", "POST", "/v1/bookings", self._jwt, "400 request.ambiguous", twice
        )
        yield self._one("call an unmapped route", "POST", "/v1/debug/reset", self._jwt, "403 route.unmapped")

    def _one(  # noqa: PLR0913 (a request)
        self,
        name: str,
        method: str,
        path: str,
        headers: dict[str, str],
        expected: str,
        content: bytes | None = None,
    ) -> Step:
        answer = self._send(method, path, headers, content)
        return Step(name=name, request=f"{method} {path}", expected=expected, seen=seen(answer), note=note(answer))

    def _book(self, name: str, headers: dict[str, str], price: str, expected: str) -> Step:
        answer = self._send("POST", "/v1/bookings", headers, booking(price))
        request = f"POST /v1/bookings {price} USD"
        return Step(name=name, request=request, expected=expected, seen=seen(answer), note=note(answer))

    def _challenged(self) -> Step:
        answer = self._send("POST", "/v1/bookings", {}, booking(PRICE))
        challenge = "challenge" if answer.headers.get("www-authenticate", "").startswith("Bearer") else "no challenge"
        return Step(
            name="book without a credential",
            request=f"POST /v1/bookings {PRICE} USD",
            expected="401 identity.required, challenge",
            seen=f"{seen(answer)}, {challenge}",
            note=note(answer),
        )

    def _given_back(self) -> Step:
        """A booking that the shop itself refuses must not eat the budget."""
        before = dict(self.budget)
        refused = self._send("POST", "/v1/bookings", self._jwt, booking("10.00", passengers=0))
        # The outcome is recorded behind the answer, so whoever asks at once may be a moment early.
        for _ in range(_LOOKS):
            self._send("POST", "/v1/bookings", self._jwt, booking("0.00"))
            if self.budget == before:
                break
        kept = "budget given back" if self.budget == before else f"budget {before} became {self.budget}"
        return Step(
            name="book what fails validation",
            request="POST /v1/bookings 10.00 USD, 0 passengers",
            expected="422, budget given back",
            seen=f"{refused.status_code}, {kept}",
        )

    def _until_the_window_stops(self) -> Step:
        spent = 500
        answer = self._send("POST", "/v1/bookings", self._jwt, booking(PRICE))
        while answer.status_code == _OK and spent < MOST_SPENT:
            spent += 500
            answer = self._send("POST", "/v1/bookings", self._jwt, booking(PRICE))
        return Step(
            name=f"book {PRICE} USD again and again",
            request=f"POST /v1/bookings {PRICE} USD, repeated",
            expected=f"403 spend.exceeded at {HOUR_CAP / 100:.2f} USD",
            seen=f"{seen(answer)} at {spent / 100:.2f} USD",
            note=note(answer),
        )

    def _until_the_rate_stops(self) -> Step:
        count = 1
        answer = self._send("GET", "/v1/flights", self._key)
        while answer.status_code == _OK and count < MOST_SEARCHES:
            count += 1
            answer = self._send("GET", "/v1/flights", self._key)
        waits = "Retry-After" if answer.headers.get("retry-after", "").isdigit() else "no Retry-After"
        return Step(
            name="search in a loop",
            request="GET /v1/flights, repeated",
            expected="429 rate.exceeded at request 11, Retry-After",
            seen=f"{seen(answer)} at request {count}, {waits}",
            note=note(answer),
        )

    def _send(self, method: str, path: str, headers: dict[str, str], content: bytes | None = None) -> httpx.Response:
        media = {"content-type": "application/json"} if content is not None else {}
        answer = self._client.request(method, path, headers={**headers, **media}, content=content)
        budget = answer.headers.get("agent-budget")
        if budget and answer.status_code == _OK:
            self.budget = {name: int(left.replace(".", "")) for name, left in _BUDGET.findall(budget)}
        return answer


_LOOKS = 5
_BUDGET = re.compile(r'"([a-z0-9_-]+)";remaining="([0-9.]+)"')


def booking(price: str, passengers: int = 1) -> bytes:
    """The JSON of a booking."""
    body = {"flight_id": "AF1", "price": price, "currency": "USD", "airline": "AF", "passengers": passengers}
    return json.dumps(body).encode()


def seen(answer: httpx.Response) -> str:
    """A response in short: its status and, when it is a problem, its code."""
    if answer.headers.get("content-type") == "application/problem+json":
        return f"{answer.status_code} {answer.json()['code']}"
    return str(answer.status_code)


def note(answer: httpx.Response) -> str:
    """What the response says beside its status: the problem's detail, or where its receipt stands."""
    if answer.headers.get("content-type") == "application/problem+json":
        return str(answer.json()["detail"])
    receipt = re.search(r"seq=([0-9]+)", answer.headers.get("agent-receipt", ""))
    return f"receipt {receipt.group(1)}" if receipt else ""
