"""The corpus: hostile and honest requests as data, and what must become of each on each stack."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.corpus.judge import Act
from tests.corpus.stacks import KINDS, STACKS
from tests.corpus.wire import Answer

HERE = Path(__file__).parent
HEADERS = ("host", "connection", "authorization", "x-case", "x-app", "content-type", "content-length")
"""What a request has unless it says otherwise, in this order."""


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must become of a request.

    `refused`: the fence answers with this code. `status`: the framework answers by itself, and no handler runs.
    `server`: the application never sees it; the server answers an error, or hangs up. `gone`: the connection ends
    without an answer. `judged`: it may run or not, as long as it is what was admitted. `acts`: the handler of this name runs, once, and its event has these values. `answers` is the
    status after that, where it is not 200; `settled` what becomes of the money, which is known when the server has ended.
    """

    refused: str = ""
    status: int = 0
    server: bool = False
    gone: bool = False
    judged: bool = False
    acts: str = ""
    times: int = 1
    amount: int | None = None
    resource: str | None = None
    answers: int = 200
    settled: str = ""

    def faults(self, answer: Answer, found: list[Act]) -> list[str]:
        """In what it was not so."""
        if self.judged:
            return []
        names = [act.name for act in found]
        if not self.acts:
            faults = [f"{name} ran" for name in names]
            seen = answer.code or ("gone" if not answer.status else str(answer.status))
            if self.refused and answer.code != self.refused:
                faults.append(f"expected {self.refused}, got {seen}")
            if self.status and (answer.status != self.status or answer.code):
                faults.append(f"expected the framework's {self.status}, got {seen}")
            if self.server and (answer.code or 0 < answer.status < 400):
                faults.append(f"expected the server to refuse, got {seen}")
            if self.gone and answer.status:
                faults.append(f"expected no answer, got {seen}")
            return faults
        if names != [self.acts] * self.times:
            return [f"expected {self.acts} to run, got {names}, {answer.status} {answer.code}"]
        event = found[0].event or {}
        faults = [] if answer.status == self.answers else [f"expected {self.answers}, got {answer.status}"]
        if self.amount is not None and event.get("amount", [None])[0] != self.amount:
            faults.append(f"expected the amount {self.amount}, got {event.get('amount')}")
        if self.resource is not None and event.get("resource") != self.resource:
            faults.append(f"expected the resource {self.resource}, got {event.get('resource')}")
        return faults


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request. Text stands for its Latin-1 bytes, so that `\\xff` is that byte.

    `line` and `headers` and `body` make it, with the usual `HEADERS` but for those named in `without` or given;
    or else `raw` is all of it, in pieces that are sent one by one, with `{auth}` for a good credential's header line,
    `{usual}` for all of the usual lines of a request without a body. `repeat` multiplies a text in the body that
    stands between `<<` and `>>`. With `h2` it is sent over HTTP/2. `stacks` are names of stacks (`stacks.KINDS`), `elsewhere` what is expected of some. `rows` are the rows of the
    research report it stands for (`rows.yaml`).
    """

    name: str
    rows: tuple[str, ...]
    expect: Any
    line: str = "POST /v1/payments"
    headers: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    media: str | None = "application/json"
    body: str = ""
    repeat: int = 0
    raw: tuple[str, ...] = ()
    app: str = ""
    half_close: bool = False
    h2: bool = False
    stacks: tuple[str, ...] = tuple(name for name in STACKS if not name.startswith("dj-layered"))
    elsewhere: dict[str, Any] = {}

    @property
    def where(self) -> tuple[str, ...]:
        """The stacks it is for, by name."""
        return tuple(stack for stack in STACKS if {stack, *KINDS[stack].also} & {*self.stacks})

    def expected(self, stack: str) -> Expected:
        """What must become of it there. Its own name says it, or the last of the names that it has beside."""
        expect = self.expect
        for name in (*KINDS[stack].also, stack):
            expect = self.elsewhere.get(name, expect)
        return msgspec.convert(_spelled_out(expect), Expected)

    def pairs(self, key: str) -> list[tuple[str, str]]:
        """The headers to send over HTTP/2. Pseudo-headers that `headers` names again stand there twice."""
        method, _, path = self.line.partition(" ")
        usual = {":method": method, ":path": path, ":scheme": "http", ":authority": "shop.example"}
        usual |= {"authorization": f"Bearer {key}", "x-case": self.name, "x-app": self.app}
        if self.body and self.media is not None:
            usual["content-type"] = self.media
        more = [
            (line[:1] + name, value.strip()) for line in self.headers for name, _, value in [line[1:].partition(":")]
        ]
        told = [(name, value) for name, value in usual.items() if value and name not in self.without] + more
        return sorted(told, key=lambda pair: not pair[0].startswith(":"))

    def parts(self, key: str) -> list[bytes]:
        """The bytes to send."""
        usual = {
            "host": "shop.example",
            "connection": "close",
            "authorization": f"Bearer {key}",
            "x-case": self.name,
            "x-app": self.app,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in usual.items() if value and name not in self.without)
        if self.raw:
            auth = f"authorization: Bearer {key}"
            whole = [part.replace("{auth}", auth).replace("{usual}", lines) for part in self.raw]
            return [part.encode("latin-1") for part in whole]
        body = self.body
        if self.repeat:
            before, _, rest = body.partition("<<")
            text, _, after = rest.partition(">>")
            body = before + text * self.repeat + after
        given = {line.partition(":")[0].lower() for line in self.headers} | {*self.without}
        if body and self.media is not None and "content-type" not in given:
            lines += f"content-type: {self.media}\r\n"
        if (body or self.line.startswith(("POST", "PUT", "PATCH"))) and "content-length" not in given:
            lines += f"content-length: {len(body)}\r\n"
        more = "".join(f"{line}\r\n" for line in self.headers)
        return [f"{self.line} HTTP/1.1\r\n{lines}{more}\r\n{body}".encode("latin-1")]


def _spelled_out(expect: Any) -> Any:
    """`request.ambiguous` is a refusal, `404` the framework's own, `server`, `gone` and `judged` are what they say."""
    if isinstance(expect, int):
        return {"status": expect}
    if isinstance(expect, str):
        return {expect: True} if expect in {"server", "gone", "judged"} else {"refused": expect}
    return expect


@cache
def cases() -> dict[str, Case]:
    """Every case, by its name. Raises `ValueError` where two have the same."""
    found: dict[str, Case] = {}
    for file in sorted((HERE / "cases").glob("*.yaml")):
        for one in msgspec.convert(yaml.safe_load(file.read_text(encoding="utf-8")), list[Case]):
            if found.setdefault(one.name, one) is not one:
                msg = f"two cases are called {one.name}"
                raise ValueError(msg)
    return found
