"""What callers show stands nowhere: not in logs, answers, receipts, the ledger's files, or what is raised. Case 82."""

from __future__ import annotations

import base64
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from afmiddleware import CredentialError, RequestView
from afmiddleware.ledger.base import Filter
from afmiddleware.testing import DpopKey
from tests.identity.server import CLIENT, AuthorizationServer
from tests.identity.sites import STACKS
from tests.identity.test_oauth_agents_fastapi_flask_django import BODY, at
from tests.identity.test_oauth_agents_fastapi_flask_django import made as made_by
from tests.identity.test_oauth_tokens_fastapi_flask_django import bound, proof_of

LENGTH = 10
"""So many letters of a secret in a row give it away."""


def plugin(view: RequestView) -> None:
    ticket = view.header("x-ticket")
    if ticket == "raises":
        raise RuntimeError(view.header("authorization"))
    if ticket is not None:
        raise CredentialError("not good")


class Record(logging.Handler):
    """Everything that is logged, with its traceback, and what was handed to it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()} {record.args!r} {record.__dict__!r}")
        if record.exc_info is not None and record.exc_info[1] is not None:
            self.texts.append("".join(traceback.format_exception(record.exc_info[1])))


def secret_parts(*texts: str) -> list[str]:
    """The pieces that would give a secret away: of a token its signature and claims, of a key what follows its id."""
    found = []
    for text in texts:
        parts = text.split(".")[1:] if text.count(".") >= 2 else [text[20:] if text.startswith("afk_") else text]
        for part in parts:
            found += [part[start : start + LENGTH] for start in range(0, len(part) - LENGTH + 1, 3)]
    return found


@pytest.mark.parametrize("stack", STACKS)
def test_of_what_is_shown_nothing_is_told(stack: str, tmp_path: Path, server: AuthorizationServer) -> None:  # 82
    record, root = Record(), logging.getLogger("afmiddleware")
    level = root.level
    root.addHandler(record)
    root.setLevel(logging.DEBUG)
    site = at(stack, tmp_path, server, "sqlite:///fence.db", authenticators=[plugin])
    answers: list[Any] = []
    try:
        key = DpopKey.make()
        token, dpop, opaque = server.mint(), bound(server, key), server.opaque()
        proof = proof_of(key, dpop)
        made = site.fence.keys.create("acme", label="till 4").text
        session = site.send(("X-API-Key", made), method="POST", where="/.well-known/agent-fence/sessions").json[
            "session"
        ]
        broken = token[:-4] + "AAAA"
        expired = server.mint(exp=1, iat=0)
        for headers in (
            [("Authorization", f"Bearer {token}")],
            [("Authorization", f"Bearer {broken}")],
            [("Authorization", f"Bearer {expired}")],
            [("Authorization", f"Bearer {token}, Bearer {token}")],
            [("Authorization", f"Bearer {dpop}")],
            [("Authorization", f"DPoP {dpop}"), ("DPoP", proof)],
            [("Authorization", f"DPoP {dpop}"), ("DPoP", proof)],
            [("Authorization", f"Bearer {opaque}")],
            [("Authorization", f"Bearer {opaque}x")],
            [("Authorization", f"Bearer {made}")],
            [("X-API-Key", made[:-1] + "!")],
            [("Authorization", f"Basic {token}"), ("X-Ticket", "raises")],
            [("Authorization", f"Basic {token}"), ("X-Ticket", "bad")],
            [("X-API-Key", made), ("Agent-Session", session)],
            [("Authorization", f"Bearer {token}"), ("Agent-Session", session)],
        ):
            answers.append(site.send(*headers))
            answers.append(site.pay("1", *headers))
        answers.append(site.send(where=f"/who?access_token={token}"))
        signed, misused = made_by("POST", "/pay", BODY), made_by("POST", "/pay", BODY, lacks=("@path",))
        for headers in (signed, signed, misused):
            answers.append(site.send(*headers, method="POST", where="/pay", body=BODY))
            answers.append(site.send(*headers, method="POST", where="/pay", body=b'{"amount": "9"}'))
        signatures = [value.split(":")[1] for name, value in (*signed, *misused) if name == "signature"]
        statuses = {answer.status for answer in answers}
        receipts = b"".join(
            one.receipt.body + repr(one.receipt.disclosed).encode() for one in site.fence.ledger.receipts(Filter())
        )
    finally:
        site.close()
        root.removeHandler(record)
        root.setLevel(level)
    # It has seen good and bad, and has logged and recorded what it saw.
    assert {200, 400, 401, 403, 503} <= statuses
    # Why each was refused stands in the log, for those who run the service.
    causes = "\n".join(record.texts)
    for cause in (
        "InvalidSignatureError",
        "expired",
        "bound to a key, and",
        "DPoP proof: ",
        "a token that its issuer does not know",
        "the API key is malformed",
        "plugin: not good",
        "plugin failed",
        "a session handle that is not this caller's",
        "its nonce was used before",
        "@path is not covered",
    ):
        assert cause in causes, cause
    assert b"key:acme" in receipts
    files = b"".join(one.read_bytes() for one in tmp_path.iterdir() if one.name.startswith("fence.db"))
    told = "\n".join(record.texts).encode() + receipts + files
    told += b"".join(answer.body + repr(answer.headers).encode() for answer in answers)
    basic = base64.b64encode(":".join(CLIENT).encode()).decode()
    for secret in secret_parts(token, dpop, proof, opaque, made, session, CLIENT[1], basic, *signatures):
        assert secret.encode() not in told, secret
