"""API keys through real servers of every framework. Numbers are cases of the index."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from afmiddleware.model.api_key import ApiKeyRecord
from tests.identity.server import AuthorizationServer
from tests.identity.sites import STACKS, Site


def other(text: str, place: int) -> str:
    """The same text but for one letter."""
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def mended(key: str) -> str:
    """A key that nobody was given, with the check digits that belong to it."""
    from afmiddleware.identity.api_keys import _check

    head = other(key[:-6], 25)
    return head + _check(head)


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_a_good_key(site: Site, header: str) -> None:  # 41
    key = site.fence.keys.create("acme", scopes=["read"]).text
    answer = site.send((header, f"Bearer {key}" if header == "Authorization" else key))
    assert (answer.status, answer.json["tier"], answer.json["id"]) == (200, "token", "key:acme")
    assert answer.json["scopes"] == ["read"]


def test_a_key_with_a_typing_error_is_not_looked_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:  # 42
    key = site.fence.keys.create("acme").text
    asked: list[str] = []
    read = site.fence.ledger.api_key

    def noted(name: str) -> ApiKeyRecord | None:
        asked.append(name)
        return read(name)

    monkeypatch.setattr(site.fence.ledger, "api_key", noted)
    for place in (10, 25, -1):
        text = other(key, place if place > 0 else len(key) - 1)
        assert site.bearer(text).status == 401
    assert asked == []
    assert site.bearer(key).status == 200
    assert asked == [key[9:19]]


@pytest.mark.parametrize("stack", STACKS)
def test_the_fences_own_paths_are_no_other_door(stack: str, server: AuthorizationServer, tmp_path: Path) -> None:  # 43
    site = Site(stack, tmp_path, server, guesses=5)
    try:
        budget = "/.well-known/agent-fence/budget"
        keys = [mended(site.fence.keys.create("acme").text) for _ in range(8)]
        refused = [site.send(("X-API-Key", key), where=budget).status for key in keys]
        assert refused == [401] * 5 + [429] * 3
    finally:
        site.close()


@pytest.mark.parametrize("stack", STACKS)
def test_guessing_is_limited_where_it_comes_from(stack: str, server: AuthorizationServer, tmp_path: Path) -> None:  # 43
    site = Site(stack, tmp_path, server, guesses=5)
    try:
        known = site.fence.keys.create("acme")
        assert site.bearer(known.text).status == 200
        refused = [site.bearer(mended(site.fence.keys.create("acme").text)).status for _ in range(8)]
        assert refused == [401] * 5 + [429] * 3
        last = site.bearer(mended(known.text))
        assert (last.status, last.json["code"], last.json["limit"]) == (429, "rate.exceeded", "guesses")
        assert int(last.headers["retry-after"]) > 0
        # Whoever was known before is served on, also with a key that has to be looked up again.
        site.checks()._api_keys._known.clear()
        assert site.bearer(known.text).status == 200
        assert site.send().status == 200
        # An opaque token may be a guess too.
        assert site.bearer("opaque-guess").status == 429
    finally:
        site.close()


def test_a_key_out_of_its_time_or_place(site: Site) -> None:  # 44
    now = datetime.now(UTC)
    keys = site.fence.keys
    revoked = keys.create("acme")
    keys.revoke(revoked.record.id)
    for made in (
        revoked,
        keys.create("acme", expires=now - timedelta(seconds=1)),
        keys.create("acme", begins=now + timedelta(hours=1)),
        keys.create("acme", networks=["10.0.0.0/8"]),
    ):
        answer = site.bearer(made.text)
        assert (answer.status, answer.json["code"]) == (401, "identity.invalid")
    assert site.bearer(keys.create("acme", networks=["127.0.0.0/8"]).text).status == 200


def test_a_rotated_key_has_the_budget_of_its_account(site: Site) -> None:  # 45
    made = site.fence.keys.create("rotates")
    assert site.pay("9", ("X-API-Key", made.text)).status == 200
    turned = site.fence.keys.rotate(made.record.id)
    for key in (made.text, turned.text):
        answer = site.pay("2", ("X-API-Key", key))
        assert (answer.status, answer.json["limit"]) == (403, "session")
    assert site.pay("1", ("X-API-Key", turned.text)).status == 200


def test_a_key_of_a_megabyte(site: Site) -> None:  # 46
    try:
        status = site.send(("X-API-Key", "a" * 1_000_000)).status
    except OSError:
        return  # the server hung up on it
    assert status in (400, 401, 431)
    answer = site.send(("X-API-Key", "a" * 9000))
    assert answer.status == 401


def test_a_key_of_another_make(site: Site) -> None:
    old = "sk_live_51HxyzABCDEFG"
    site.fence.keys.import_digest(sha256(old.encode()).digest(), "acme")
    assert site.bearer(old).json["id"] == "key:acme"
    assert site.send(("X-API-Key", old)).json["id"] == "key:acme"
    assert site.bearer(old + "H").status == 401
