"""The cases through the spine alone: no framework, no server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from afmiddleware.current import Action
from afmiddleware.drivers import run
from afmiddleware.errors import MappingError
from afmiddleware.extractors import call
from afmiddleware.flow import admit
from afmiddleware.model.http import HttpFacts, Target
from afmiddleware.model.outcome import End
from afmiddleware.pep.endpoints import caller, serve, wanted
from afmiddleware.pep.passage import refused_by
from afmiddleware.pep.respond import admitted
from afmiddleware.pep.settle import Settling
from afmiddleware.plan import Admission, Refused
from tests.conformance.harness import Case, Scene, Seen, cases, told_of

UNMAPPED = ("POST /unmapped",)


class Io:
    """A body that is there already; the rest is the fence's."""

    def __init__(self, scene: Scene, body: bytes) -> None:
        self._body = body
        self.call = call
        self.commit = scene.fence.commit
        self.post = scene.fence.post
        self.resolve = scene.fence.resolve

    def read_body(self, cap: int) -> bytes:
        if len(self._body) > cap:
            raise MappingError("request.too_large", "too large")
        return self._body


def resolve(scene: Scene, method: str, path: str) -> Target | None:
    """The route that a plain router would take."""
    for key in (*scene.fence.plan.bindings, *UNMAPPED):
        wanted, _, template = key.partition(" ")
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template))
        match = re.fullmatch(pattern, path)
        if match is not None and wanted == method:
            return Target(key=key, method=method, template=template, params=match.groupdict())
    return None


def send(scene: Scene, request: dict[str, Any]) -> Seen:
    return scene.note(_send(scene, request))


def _send(scene: Scene, request: dict[str, Any]) -> Seen:
    method, path, query, headers, body = scene.parts(request)
    facts = HttpFacts(
        method=method,
        path=unquote(path),
        raw_path=path.encode(),
        query=query.encode(),
        headers=tuple((name.encode(), value.encode()) for name, value in headers),
        peer="203.0.113.9",
    )
    fence = scene.fence
    now = scene.clock()
    if wanted(fence, facts.path):
        return seen_of(*serve(fence, facts, run(caller(fence, facts), Io(scene, body))))
    flow = admit(fence.plan, facts, lambda: resolve(scene, method, facts.path), now, fence.new_id)
    passage = run(flow, Io(scene, body))
    if isinstance(passage, Refused):
        return seen_of(*refused_by(fence, facts, passage))
    if isinstance(passage, Admission):
        status = request.get("answer", 200)
        action = Action(passage)
        settling = Settling(action)
        settling.start(status, [(b"content-type", request.get("reply-media", "application/json").encode())])
        for byte in request.get("reply", "{}").encode():
            settling.feed(bytes([byte]))
        for admission, outcome in settling.outcomes(End.OK):
            fence.conclude(admission, outcome)
        return seen_of(status, admitted(action, status, End.OK, now, cross_origin=False, prefix=fence.prefix), b"")
    if passage.target is not None:
        return Seen(status=request.get("answer", 200))
    # What a plain router answers by itself.
    known = any(resolve(scene, other, facts.path) for other in ("GET", "POST", "DELETE"))
    return Seen(status=405 if known else 404)


def seen_of(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Seen:
    fields = {name.decode(): value.decode() for name, value in headers}
    told = told_of(headers, body)
    return Seen(
        status=status,
        code=told.get("code", ""),
        rule=told.get("rule", ""),
        limit=told.get("limit", ""),
        challenge="www-authenticate" in fields,
        wait=fields.get("retry-after", "").isdigit(),
        headers=fields,
        told=told,
        content=body,
    )


@pytest.mark.parametrize("ledger", ["memory", "sqlite:///fence.db"])
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_case(case: Case, ledger: str, tmp_path: Path) -> None:
    scene = Scene(case, tmp_path, ledger)
    for request in case.before:
        send(scene, request)
    seen = send(scene, case.request)
    settle(scene)
    scene.check(case, seen)
    scene.fence.close()


def settle(scene: Scene) -> None:
    """Wait until what was posted is written: it comes before this dry look in the ledger's queue."""
    from afmiddleware.model import Entry, Verdict

    verdict = Verdict(authorized=True, code="policy.allowed")
    scene.fence.commit(Entry(id="look", owner="nobody", verdict=verdict, record=lambda _: None, dry=True))  # type: ignore[arg-type,return-value]
