"""What users build their own tests on keeps its word."""

from __future__ import annotations

import time

import jwt
import pytest

from afmiddleware.identity.keyset import read_keyset
from afmiddleware.testing import FrozenClock, mint_es256_issuer


def test_a_frozen_clock_moves_when_it_is_told_to():
    clock = FrozenClock()
    start = clock()
    assert clock() == start
    clock.advance(1.5)
    assert clock() == start + 1_500_000
    clock.advance(-0.000001)
    assert clock() == start + 1_499_999
    clock.at(7)
    assert clock() == 7


def test_two_clocks_start_at_the_same_time():
    assert FrozenClock()() == FrozenClock()()
    assert FrozenClock(5)() == 5


def test_a_minted_token_is_one_of_its_issuer():
    clock = FrozenClock()
    issuer = mint_es256_issuer("https://as.shop.example", "https://shop.example", kid="k-1", clock=clock)
    key = read_keyset(issuer.jwks, ("ES256",)).keys["k-1"]
    text = issuer.mint()
    assert jwt.get_unverified_header(text) == {"alg": "ES256", "kid": "k-1", "typ": "JWT"}
    now = clock() // 1_000_000
    assert jwt.decode(
        text, key.public, ["ES256"], audience="https://shop.example", options={"verify_exp": False, "verify_iat": False}
    ) == {
        "iss": "https://as.shop.example",
        "aud": "https://shop.example",
        "sub": "agent-1",
        "iat": now,
        "exp": now + 300,
    }


def claims(text: str) -> dict[str, object]:
    found: dict[str, object] = jwt.decode(text, options={"verify_signature": False})
    return found


def test_claims_and_headers_are_added_replaced_and_left_out():
    issuer = mint_es256_issuer(clock=FrozenClock())
    text = issuer.mint({"typ": "at+jwt", "kid": "other"}, sub="agent-2", scope="book", iat=None)
    assert jwt.get_unverified_header(text) == {"alg": "ES256", "kid": "other", "typ": "at+jwt"}
    assert claims(text)["sub"] == "agent-2"
    assert claims(text)["scope"] == "book"
    assert "iat" not in claims(text)
    assert claims(issuer.mint())["sub"] == "agent-1"


def test_tokens_follow_the_clock():
    clock = FrozenClock()
    issuer = mint_es256_issuer(clock=clock)
    before = claims(issuer.mint())["exp"]
    clock.advance(60)
    assert claims(issuer.mint())["exp"] == before + 60  # type: ignore[operator]


def test_without_a_clock_tokens_are_good_now():
    before = time.time_ns() // 1_000_000_000
    issued = claims(mint_es256_issuer().mint())["iat"]
    assert isinstance(issued, int)
    assert before <= issued <= time.time_ns() // 1_000_000_000


def test_every_issuer_has_a_key_of_its_own_and_publishes_its_public_half():
    one, two = mint_es256_issuer(), mint_es256_issuer()
    assert one.jwks != two.jwks
    assert "d" not in one.jwks["keys"][0]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(
            one.mint(), read_keyset(two.jwks, ("ES256",)).keys["test-1"].public, ["ES256"], audience=one.audience
        )


def test_rates_of_a_server_are_counted_in_memory(tmp_path):
    from afmiddleware.cli.events import looking_fence
    from afmiddleware.testing import fence_for_tests

    place = tmp_path / "fence.yaml"
    place.write_text("version: 1\nservice: s\nledger: sqlite:///fence.db\nrates: redis://127.0.0.1:1\n")
    for fence in (fence_for_tests(place), looking_fence(str(place))):
        assert (fence.config.ledger, fence.config.rates) == ("memory", None)
        fence.close()
    assert list(tmp_path.iterdir()) == [place]


def test_a_policy_whose_ledger_is_in_the_environment_is_tested_without_it(tmp_path, monkeypatch):
    from afmiddleware.errors import ConfigError
    from afmiddleware.fence import Fence
    from afmiddleware.testing import fence_for_tests

    monkeypatch.delenv("FENCE_LEDGER", raising=False)
    place = tmp_path / "fence.yaml"
    place.write_text("version: 1\nservice: s\nledger: ${FENCE_LEDGER}\n")
    fence = fence_for_tests(place)
    assert fence.config.ledger == "memory"
    fence.close()
    with pytest.raises(ConfigError, match="the environment variable FENCE_LEDGER is not set; set it"):
        Fence.from_file(place, env={})
