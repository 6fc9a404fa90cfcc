"""Where routes do not overlap, the policy's own table and a real router name the same endpoint, or the table none."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route

from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.pep.table import RouteTable
from afmiddleware_fastapi.resolver import Resolver, Routed
from tests.integrations.fastapi.fenced import scope_of

KINDS = ["", ":int", ":uuid", ":path", ":float", ":str"]
UUID = "12345678-1234-5678-1234-56781234abcd"
PIECES = [
    "a", "b", "7", "007", "-1", "1.5", "01.5", "1e3", UUID, UUID.upper(), "", ".", "x y", "é", "٧", "a\n", "7\n", "a\\b",
]  # fmt: skip


GOOD = {
    "": ["a", "7", "x y", UUID], ":str": ["a", "é", "b"], ":int": ["7", "0", "12"], ":uuid": [UUID],
    ":path": ["a", "a/b", "7/.x"], ":float": ["1.5", "0.25"],
}  # fmt: skip


async def handler(request: Any) -> None:
    raise AssertionError


def templates() -> st.SearchStrategy[list[str]]:
    """Templates that no path matches two of: each begins with a segment of its own."""
    parameter = st.sampled_from(KINDS).map(lambda kind: f"{{NAME{kind}}}")
    one = st.lists(st.one_of(st.sampled_from(["a", "b"]), parameter), max_size=3)

    def named(place: int, parts: list[str]) -> str:
        whole = "/".join(part.replace("NAME", f"p{number}") for number, part in enumerate(parts))
        return f"/t{place}/{whole}" if whole else f"/t{place}"

    one = one.filter(lambda parts: parts.count("{NAME:path}") < 2)
    return st.lists(st.tuples(one, st.booleans()), min_size=1, max_size=4).map(
        lambda found: [named(place, parts) + "/" * slash for place, (parts, slash) in enumerate(found)]
    )


@given(templates(), st.data())
def test_they_agree(paths: list[str], data: st.DataObject) -> None:
    app = Starlette(routes=[Route(path, handler, methods=["GET"]) for path in paths])
    routes = "".join(f'  - {{route: "GET {path}", capability: c.c}}\n' for path in paths)
    fence = Fence(load(f"version: 1\nservice: s\nledger: memory\nroutes:\n{routes}"))
    table, resolver = RouteTable(fence.plan.bindings), Resolver(app)
    fence.close()
    pieces: list[str] = []

    def piece(found: re.Match[str]) -> str:
        good = GOOD[found.group(1)]
        pieces.append(data.draw(st.one_of(st.sampled_from(good), st.sampled_from(good), st.sampled_from(PIECES))))
        return pieces[-1]

    path = re.sub(r"\{\w+(:?\w*)\}", piece, data.draw(st.sampled_from(paths)))
    path += data.draw(st.sampled_from(["", "", "", "/", "/b", "\n"]))
    method = data.draw(st.sampled_from(["GET", "HEAD", "POST"]))
    listed, asked = table.find(method, path), resolver.resolve(scope_of(method, path))
    event("listed" if table.lists(listed) else "routed" if isinstance(asked, Routed) else "neither")
    if table.lists(listed):
        assert isinstance(asked, Routed)
        assert listed.key == asked.key
        assert {name: str(value) for name, value in listed.params.items()} == {
            name: str(value) for name, value in asked.params.items()
        }
    elif isinstance(asked, Routed):
        # What the router takes and the table does not list has a spelling of its own: it is refused.
        strange = {"007", "01.5", "a\n", "7\n", "a\\b", "", UUID.upper()} | (
            {"7"} if ":float" in asked.template else set()
        )
        assert strange & set(pieces) or path.endswith("\n") or "//" in path
