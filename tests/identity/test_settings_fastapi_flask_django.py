"""What a policy may say of credentials besides which there are, through real servers of every framework."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from afmiddleware.identity.api_keys import new_key
from tests.identity.server import AuthorizationServer
from tests.identity.sites import STACKS, Site

every = pytest.mark.parametrize("stack", STACKS)


@every
def test_a_prefix_of_ones_own(stack: str, server: AuthorizationServer, tmp_path: Path) -> None:
    site = Site(stack, tmp_path, server, keys="prefix: acme1")
    try:
        made = site.fence.keys.create("acme")
        turned = site.fence.keys.rotate(made.record.id, overlap=timedelta(hours=1))
        usual, record = new_key("usual", bytes, now=0)
        site.fence.ledger.put_api_key(record)
        assert made.text.startswith(f"acme1_live_{made.record.id}_")
        assert turned.text.startswith("acme1_live_")
        for text in (made.text, turned.text, usual):
            # The second time it is remembered.
            assert [site.bearer(text).status for _ in range(2)] == [200, 200]
            assert site.send(("X-API-Key", text)).status == 200
            assert site.send(where=f"/who?k={text}").status == 400
        for bad in (made.text.replace("acme1", "acme2"), made.text.replace("acme1", "afk"), made.text[:-1] + "!"):
            assert site.bearer(bad).status == 401
    finally:
        site.close()


@every
def test_how_long_a_good_key_is_believed(stack: str, server: AuthorizationServer, tmp_path: Path) -> None:
    site = Site(stack, tmp_path, server, keys="cache_s: 0")
    try:
        made = site.fence.keys.create("acme")
        assert site.bearer(made.text).status == 200
        site.fence.keys.revoke(made.record.id)
        assert site.bearer(made.text).status == 401
    finally:
        site.close()


@every
def test_how_long_a_credential_may_be(stack: str, server: AuthorizationServer, tmp_path: Path) -> None:
    site = Site(stack, tmp_path, server, settings="limits: {authorization_bytes: 1000}")
    try:
        token = server.mint()
        assert len(token) < 900
        assert site.bearer(token).status == 200
        assert site.bearer(server.mint(padding="a" * 800)).status == 401
        assert site.send(("X-API-Key", "a" * 1001)).status == 401
    finally:
        site.close()
    site = Site(stack, tmp_path, server, settings="limits: {authorization_bytes: 16384}")
    try:
        long = [server.mint(padding="a" * size) for size in (8000, 12_000)]
        assert [len(token) > limit for token, limit in zip(long, (8192, 16_384), strict=True)] == [True, True]
        assert [site.bearer(token).status for token in long] == [200, 401]
    finally:
        site.close()
