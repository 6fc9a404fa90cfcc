"""Where strangers come from, through FastAPI, Flask and Django: what they write themselves moves them nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integrations.agents.sites import ROUTES, STACKS, Site

PROXY, CLIENT = "10.0.0.1", "203.0.113.9"
RULES = "rules: {allow: [shop.*]}\nlimits: [{name: calls, rate: 2/day, per: actor}]\n"
TRUSTED = "{mode: trusted, trusted_proxies: [10.0.0.0/8]}"
FORWARDED = "{mode: trusted, trusted_proxies: [10.0.0.0/8], header: Forwarded}"


@pytest.fixture(params=STACKS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def made(proxy: str = "{mode: direct}", peer: str = CLIENT) -> Site:
        return Site(request.param, f"identity: {{proxy: {proxy}}}\n{ROUTES}{RULES}", tmp_path, peer=peer)

    return made


def statuses(site: Site, *headers: tuple[str, str]) -> list[int]:
    return [site.send("GET", "/read", [one]).status_code for one in headers]


@pytest.mark.parametrize("mode", ["{mode: direct}", "{mode: server}", TRUSTED, FORWARDED])
def test_a_client_that_forges_headers_stays_where_it_is(site: Any, mode: str) -> None:  # 69
    forged = [
        ("x-forwarded-for", "1.1.1.1"),
        ("forwarded", "for=1.1.1.2"),
        ("x-real-ip", "1.1.1.3"),
        ("cf-connecting-ip", "1.1.1.4"),
        ("true-client-ip", "1.1.1.5"),
        ("x-forwarded-for", "10.0.0.1"),
    ]
    assert statuses(site(mode), *forged) == [200, 200, 429, 429, 429, 429]


def test_the_proxys_own_word_counts(site: Any) -> None:  # 70
    one = site(TRUSTED, PROXY)
    forged = [("x-forwarded-for", f"1.1.1.{n}, {CLIENT}") for n in range(4)]
    assert statuses(one, *forged) == [200, 200, 429, 429]
    assert statuses(one, ("x-forwarded-for", "198.51.100.1")) == [200]
    assert {entry["peer"] for entry in one.decided()} == {CLIENT, "198.51.100.1"}


def test_however_it_is_written_it_is_one_caller(site: Any) -> None:  # 72
    one = site(TRUSTED, PROXY)
    written = [f"{CLIENT}", f"{CLIENT}:1234", f"::ffff:{CLIENT}", f"[::ffff:{CLIENT}]:99"]
    assert statuses(one, *(("x-forwarded-for", text) for text in written)) == [200, 200, 429, 429]
    six = ["2001:db8::1", "[2001:db8::2]:80", "2001:db8::ffff:3%eth0"]
    assert statuses(one, *(("x-forwarded-for", text) for text in six)) == [200, 200, 429]


def test_garbage_is_the_proxys(site: Any) -> None:
    one = site(TRUSTED, PROXY)
    garbage = ["", "unknown", "1.2.3", "<script>", "1.1.1.1, \x7f"]
    assert statuses(one, *(("x-forwarded-for", text) for text in garbage[:4])) == [200, 200, 429, 429]


def test_forwarded(site: Any) -> None:
    one = site(FORWARDED, PROXY)
    lines = [f"for=1.1.1.{n}, for={CLIENT};proto=https" for n in range(3)]
    assert statuses(one, *(("forwarded", line) for line in lines)) == [200, 200, 429]
    assert statuses(one, ("x-forwarded-for", "8.8.8.8")) == [200]


def test_whoever_has_no_address_shares_one_bucket(site: Any) -> None:
    one = site(peer="somewhere")
    assert statuses(one, ("x-a", "1"), ("x-a", "2"), ("x-a", "3")) == [200, 200, 429]
