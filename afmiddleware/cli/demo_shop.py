"""The shop of `afmiddleware demo`: its folder, its keys, and its server process."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import httpx

import afmiddleware
from afmiddleware.assemble import assemble
from afmiddleware.cli.common import policy_at
from afmiddleware.cli.demo_agent import Step
from afmiddleware.config.load import limits_of
from afmiddleware.errors import AFError, ConfigError
from afmiddleware.fence import system_clock
from afmiddleware.identity.api_keys import new_key
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.open import open_for_reading, open_for_tools
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import mint_es256_issuer

if TYPE_CHECKING:
    from types import TracebackType


_PATIENCE: Final = 15.0
_LEDGER: Final = "sqlite:///fence.db"


class Shop:
    """The shop as an application of `app`'s framework, on a free loopback port, with a fresh ledger in `folder`.

    FastAPI runs under uvicorn, Flask and Django under werkzeug's threaded server.
    """

    def __init__(self, folder: Path, policy: str | None, app: str = "fastapi") -> None:
        self._app = app
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._sample = sample_folder(f"{app}_shop")
        chosen = Path(policy) if policy else sample_folder() / "fence.yaml"
        read, _ = policy_at(str(chosen))
        shutil.copyfile(chosen, folder / "fence.yaml")
        issuer = mint_es256_issuer("https://agents.example.com", "https://shop.example.com")
        (folder / "jwks.json").write_text(json.dumps(issuer.jwks), encoding="utf-8")
        self._issuer = issuer
        assemble(read, folder)
        self._base = folder
        self.config = read.model_copy(update={"ledger": _LEDGER})
        self.api_key = self._make_key()

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.set_inheritable(True)
        fd = self._socket.fileno()
        command = [sys.executable, "-m", *_server(self._app, str(self._sample), str(fd))]
        environment = {**os.environ, "AFM_POLICY": str(self._folder / "fence.yaml"), "AFM_LEDGER": _LEDGER}
        environment.pop("AFM_MODE", None)
        log = (self._folder / "server.log").open("wb")
        with log:
            self._server = subprocess.Popen(command, env=environment, pass_fds=[fd], stdout=log, stderr=log)  # noqa: S603
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        if self._socket is not None:
            self._socket.close()

    def client(self) -> httpx.Client:
        """A client of the running server. Raises `AFError` with the server's log when it does not start."""
        if self._socket is None or self._server is None:
            msg = "the shop is not open"
            raise AFError(msg)
        port = self._socket.getsockname()[1]
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE)
        # The socket listens already, so this waits for the server without polling; one that died is told from its log.
        try:
            client.get("/health")
        except httpx.HTTPError as error:
            client.close()
            log = (self._folder / "server.log").read_text(encoding="utf-8", errors="replace")
            msg = f"the shop did not start ({type(error).__name__}):\n{log}"
            raise AFError(msg) from error
        return client

    def token(self, subject: str) -> str:
        """A JWT for `subject`, as the authorization server of the sample policy would issue it."""
        return self._issuer.mint(sub=subject, scope="flights.book")

    def budget_step(self, remaining: dict[str, int]) -> Step:
        """Whether the budget the agent was told is what the receipts add up to."""
        spent = self._spent()
        told = {
            limit.name: limit.cap - remaining[limit.name] for limit in limits_of(self.config) if limit.name in remaining
        }
        wrong = {name: used for name, used in told.items() if used != spent}
        shown = ", ".join(f"{name} {remaining[name] / 100:.2f}" for name in told)
        return Step(
            name="look at the budget",
            request="Agent-Budget",
            expected=f"{spent / 100:.2f} USD used, as the receipts say",
            seen=f"{spent / 100:.2f} USD used, as the receipts say" if not wrong else f"{wrong} used",
            note=f"remaining: {shown}",
        )

    def _spent(self) -> int:
        """What the receipts add up to, in cents: captured, or reserved by an intent that has not ended."""
        ledger = open_for_reading(self.config, self._base)
        amounts: dict[str, int] = {}
        try:
            for stored in ledger.receipts(Filter()):
                body = strict_parse(stored.receipt.body)
                if body["kind"] == "intent":
                    amounts[body["id"]] = int(body["amount"] or 0)
                elif body["kind"] == "outcome":
                    amounts[body["id"]] = int(body["captured"] or 0)
        finally:
            ledger.close()
        return sum(amounts.values())

    def _make_key(self) -> str:
        ledger = open_for_tools(self.config, self._base)
        try:
            text, record = new_key("acct_demo", secrets.token_bytes, now=system_clock())
            ledger.put_api_key(record)
        finally:
            ledger.close()
        return text


def _server(app: str, folder: str, descriptor: str) -> list[str]:
    """The module that serves an application, with its arguments."""
    if app == "flask":
        return ["afmiddleware.cli.demo_wsgi", folder, "app:create_from_env()", descriptor]
    if app == "django":
        # A project is a package: its modules name each other by it.
        return ["afmiddleware.cli.demo_wsgi", str(Path(folder).parent), "django_shop.wsgi:application", descriptor]
    uvicorn = ["uvicorn", "--factory", "app:create_from_env", "--app-dir", folder]
    return [*uvicorn, "--fd", descriptor, "--log-level", "warning"]


def sample_folder(name: str = "fastapi_shop") -> Path:
    """The folder of a sample shop: inside the installed package, or in the checkout it was installed from."""
    package = Path(afmiddleware.__file__).parent
    for folder in (package / "_samples" / name, package.parent / "sample_apps" / name):
        if (folder / "README.md").is_file():
            return folder
    msg = f"the sample shop is missing beside {package}: install afmiddleware again"
    raise ConfigError([msg])
