"""The cost of knowing a caller who was known a moment ago, against a SHA-256 and a hit in a TTL cache."""

from __future__ import annotations

import json
import secrets
import threading
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from cachetools import TTLCache
from rich.console import Console
from rich.table import Table

from afmiddleware.authenticators import authenticators, key_sources, proxies
from afmiddleware.config.load import load
from afmiddleware.identity.api_keys import new_key
from afmiddleware.identity.needs import NeedKey
from afmiddleware.identity.outcome import Ok
from afmiddleware.model.http import HttpFacts
from afmiddleware.testing import mint_es256_issuer

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.identity.identify import Authenticators

RATIO: Final = 1.5
TOKENS: Final = 100

POLICY: Final = """
version: 1
service: s
identity:
  api_keys: {store: ledger}
  jwt:
    issuers:
      - {issuer: "https://as.example.com", audience: "https://api.example.com", algorithms: [ES256], jwks: KEYS}
"""


def identity(rounds: int, requests: int) -> None:
    """Print microseconds per caller, and how they compare with hashing a token and finding it in a cache."""
    issuer = mint_es256_issuer()
    config = load(POLICY.replace("KEYS", json.dumps(issuer.jwks)))
    checks = authenticators(
        config.identity, key_sources(config, Path()), lambda message: message, proxies(config.identity), None
    )
    now = time.time_ns() // 1000
    tokens = [issuer.mint(sub=f"agent-{n}", scope="read pay", jti=secrets.token_urlsafe(12)) for n in range(TOKENS)]
    keys = [new_key(f"acct-{n}", secrets.token_bytes, now=now) for n in range(TOKENS)]
    records = {record.id: record for _, record in keys}
    by_token = [_facts(token) for token in tokens]
    by_key = [_facts(text) for text, _ in keys]
    for facts in (*by_token, *by_key):
        _known(checks, facts, records, now)
    cache: TTLCache[bytes, bool, float] = TTLCache(10_000, 60, time.monotonic)
    lock = threading.Lock()
    for token in tokens:
        cache[sha256(token.encode()).digest()] = True

    def plain(n: int) -> bool:
        mark = sha256(tokens[n % TOKENS].encode()).digest()
        with lock:
            return cache[mark]

    variants: dict[str, Callable[[int], Any]] = {
        "SHA-256 and a TTL cache": plain,
        "token, remembered": lambda n: checks.recall(by_token[n % TOKENS], now),
        "API key, remembered": lambda n: checks.recall(by_key[n % TOKENS], now),
        "token, checked": lambda n: _known(checks, _facts(issuer_tokens[n % len(issuer_tokens)]), records, now),
    }
    # Tokens that were not seen before, as many as are asked for.
    few = max(requests // 20, 1)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        now = time.time_ns() // 1000
        for facts in (*by_token, *by_key):
            _known(checks, facts, records, now)
        issuer_tokens = [issuer.mint(sub=f"new-{n}") for n in range(few)]
        for name, run in variants.items():
            count = few if name == "token, checked" else requests
            start = time.perf_counter()
            for n in range(count):
                assert run(n)
            times[name].append((time.perf_counter() - start) / count * 1e6)
    table = Table("caller", "us")
    for name, found in times.items():
        table.add_row(name, f"{median(found):.2f}")
    console = Console()
    console.print(table)
    bottom = "SHA-256 and a TTL cache"
    for top in ("token, remembered", "API key, remembered"):
        ratio = median(a / b for a, b in zip(times[top], times[bottom], strict=True))
        console.print(f"{top} / {bottom}: {ratio:.2f} (at most {RATIO}: {'yes' if ratio <= RATIO else 'NO'})")


def _facts(text: str) -> HttpFacts:
    headers = [(b"host", b"api.example.com"), (b"authorization", f"Bearer {text}".encode()), (b"accept", b"*/*")]
    return HttpFacts(method="GET", path="/", headers=headers, peer="203.0.113.7")


def _known(checks: Authenticators, facts: HttpFacts, records: dict[str, Any], now: int) -> bool:
    flow = checks.identify(facts, now)
    try:
        need = next(flow)
        while True:
            need = flow.send(records[need.key_id] if isinstance(need, NeedKey) else [])
    except StopIteration as stop:
        return isinstance(stop.value, Ok)
