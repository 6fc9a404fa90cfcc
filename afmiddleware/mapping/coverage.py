"""The coverage audit: which endpoint of the real application falls under which binding, and what is wrong with that.

An adapter says what its framework's router has and nothing else: a `Listing`. `Fence.adopt(listing)` at the start, and
`afmiddleware check --app`, do the rest. The protocol for an adapter package `afmiddleware_<framework>`:

- `afmiddleware_<framework>.audit.listing(app) -> Listing` lists every endpoint that a request can reach: in the order
  the router asks, mounts and sub-applications unfolded, pages that the framework adds by itself included. It runs no
  handler and raises `TypeError` for an application that is not its framework's.
- `Endpoint.method` is the method that is judged, `*` where every method is dispatched; `Endpoint.template` is the
  router's own spelling from the outermost prefix down. The adapter's `Target.key` at a request is `key_of` of the
  same two, computed once and not per request.
- `Endpoint.declaration` is `declared(handler, method)`, or where that is `None` the declaration on the nearest router
  that holds the endpoint. The fence compiles it; the adapter does nothing with it.
- `Listing.layers` are the import paths of what stands between the fence and the handlers and is not known as harmless.
- At its start (Flask: the first request) the adapter calls `fence.adopt(listing(app))`, which raises `ConfigError`
  with everything that must stop it. Several applications may share a fence; what they list adds up.

The ids of findings are stable.
"""

from __future__ import annotations

import difflib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from afmiddleware.grammar.templates import normal, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from afmiddleware.declare import Declaration
    from afmiddleware.grammar.paths import Source
    from afmiddleware.mapping.bindings import Binding

Kind = Literal["http", "websocket", "mount", "unknown"]

_UNMAPPED: Final = MappingProxyType(
    {
        "deny": "is always refused",
        "allow": "runs for everybody (unmapped: allow)",
        "observe": "runs for everybody, and is only recorded (unmapped: observe)",
        "observed": "is refused as soon as the policy enforces (mode: observe)",
    }
)

UNMAPPED: Final = "coverage.unmapped"
"""A mutating endpoint has no binding: every request to it is refused, or passes undecided, as `unmapped:` says."""
NO_ENDPOINT: Final = "coverage.no_endpoint"
"""The policy binds an endpoint that the application does not have."""
AMBIGUOUS: Final = "coverage.ambiguous"
"""One binding would mean several endpoints, or several bindings one endpoint."""
DECLARED_TWICE: Final = "coverage.declared_twice"
"""An endpoint is bound in the policy file and in the code."""
DECLARATION: Final = "coverage.declaration"
"""A declaration in the code is wrong."""
UNKNOWN_NODE: Final = "coverage.unknown_node"
"""The router has a node that the adapter cannot look into."""
INNER_MIDDLEWARE: Final = "coverage.inner_middleware"
"""A layer inside the fence, or inside a mounted application, may change what the handlers act on."""
ROUTER: Final = "coverage.router"
"""The router itself cannot be asked."""

MISREAD: Final = "coverage.misread"
"""The policy reads a value from another place than the handler."""
UNREAD: Final = "coverage.unread"
"""The policy reads a value that the handler does not take."""

STOPS: Final = frozenset(
    {NO_ENDPOINT, AMBIGUOUS, DECLARED_TWICE, DECLARATION, UNKNOWN_NODE, INNER_MIDDLEWARE, ROUTER, MISREAD}
)
"""The findings that stop the start. What is merely unmapped is denied."""

ANY_METHOD: Final = "*"
EVERY: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "QUERY")
"""The methods that a declaration on an endpoint without a list of methods means."""
_HINTS: Final = 20
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "WEBSOCKET"})


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Something of the application that a request can reach.

    `methods` are those that are judged under `method` (`GET` includes `HEAD` where one handler answers both). `kind` is
    `mount` for an application judged as a whole, `unknown` for what the adapter cannot look into. `name` is the
    handler's import path, `where` its file and line where that is known. `misread` says from which place the handler
    takes a value that it would also know by the place given, empty when that is the place; `unread` says what it takes
    where it does not take what is at the place given, `None` when it may. Both are `None` where the framework does not
    know what its handlers read.
    """

    method: str
    template: str
    name: str
    methods: tuple[str, ...] = ()
    kind: Kind = "http"
    where: str = ""
    declaration: Declaration | None = None
    misread: Callable[[Source], str] | None = None
    unread: Callable[[Source], tuple[str, ...] | None] | None = None

    @property
    def key(self) -> str:
        """What a policy binds."""
        return key_of(self.method, self.template)


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter tells of an application.

    `problems` are reasons why its router cannot be asked, `notes` what somebody who reads the audit should know.
    """

    endpoints: tuple[Endpoint, ...] = ()
    layers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def merge(first: Listing, second: Listing) -> Listing:
    """What two listings say together, nothing twice."""
    endpoints = {(one.key, one.template, one.name): one for one in (*first.endpoints, *second.endpoints)}
    return Listing(
        endpoints=(*endpoints.values(),),
        layers=(*dict.fromkeys((*first.layers, *second.layers)),),
        problems=(*dict.fromkeys((*first.problems, *second.problems)),),
        notes=(*dict.fromkeys((*first.notes, *second.notes)),),
    )


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong. `where` is `file:line` where there is a place."""

    id: str
    text: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint and what became of it: `capability` is `public` or `unmapped` where it has none.

    `methods` are those that have it, where the endpoint dispatches every method and not all of them are bound.
    """

    endpoint: str
    capability: str
    handler: str
    bound: str = ""
    """Where the binding stands, `file:line`."""
    methods: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The audit of one application: every endpoint with its capability, what is wrong, and what should be known."""

    endpoints: tuple[Covered, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


def key_of(method: str, template: str) -> str:
    """The key under which a policy binds an endpoint: the judged method and the template's normal form."""
    return f"{method} {normal(template)}"


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """The bindings by the endpoints' own keys, with what was found on the way."""

    bindings: Mapping[str, Binding]
    findings: tuple[Finding, ...]


def fit(bound: Mapping[str, Binding], endpoints: Sequence[Endpoint], source: str) -> Fitted:
    """Give the bindings of a policy file, by normal key, to the endpoints they mean.

    An entry means the endpoint with its very normal form; where the application has none, the one that differs only
    in converters (`{id}` for Flask's `<int:id>`). It never means two. `source` is the file's name.
    """
    exact = {one.key: one for one in endpoints if one.method != ANY_METHOD and one.kind != "unknown"}
    whole = {normal(one.template) for one in endpoints if one.method == ANY_METHOD and one.kind != "unknown"}
    near: dict[str, list[str]] = {}
    for key in exact:
        near.setdefault(plain(key), []).append(key)
    for template in whole:
        near.setdefault(plain(template), []).append(template)
    bindings = dict(bound)
    findings: list[Finding] = []
    meant: dict[str, Binding] = {}
    for key, binding in bound.items():
        method, _, template = key.partition(" ")
        place = f"{source}:{binding.line}" if binding.line else source
        if key in exact or template in whole:
            continue
        if binding.implied and not near.get(plain(key)) and not near.get(plain(template)):
            continue
        offers = [one for one in near.get(plain(key), ()) if one not in bound]
        offers += [f"{method} {one}" for one in near.get(plain(template), ()) if f"{method} {one}" not in bound]
        if not offers:
            # Looking for what was meant takes long where thousands are missing, and nobody reads so many hints.
            hint = _near(key, exact, whole) if len(findings) < _HINTS else ""
            text = f"routes: the application has no endpoint {binding.key}{hint}"
            findings.append(Finding(NO_ENDPOINT, text, place))
        elif len(offers) > 1:
            text = f"{binding.key} would mean {' and '.join(offers)}; write an entry for each, with its converter"
            findings.append(Finding(AMBIGUOUS, text, place))
        elif offers[0] in meant:
            text = f"{binding.key} and {meant[offers[0]].key} both mean {offers[0]}; keep one"
            findings.append(Finding(AMBIGUOUS, text, place))
        else:
            bindings[offers[0]] = meant[offers[0]] = binding
    findings += _collisions(bindings, endpoints)
    return Fitted(bindings=bindings, findings=tuple(findings))


def report(bindings: Mapping[str, Binding], listing: Listing, findings: Sequence[Finding], source: str) -> Report:
    """What an audit found, in the order of the application's own router."""
    whole = _by_template(bindings)
    rows = [_covered(one, _bindings_of(one, bindings, whole), source) for one in listing.endpoints]
    return Report(endpoints=(*rows,), findings=(*findings,), notes=listing.notes)


def gaps(
    bindings: Mapping[str, Binding],
    listing: Listing,
    allowed_inner: Collection[str],
    unmapped: str,
) -> list[Finding]:
    """What is wrong with an application, its bindings aside. `unmapped` is the word of the policy."""
    findings = [Finding(ROUTER, problem) for problem in listing.problems]
    whole = _by_template(bindings)
    for one in listing.endpoints:
        if one.kind == "unknown":
            text = f"the router has a node of an unknown kind, {one.name}: the fence cannot see what it runs"
            findings.append(Finding(UNKNOWN_NODE, text, one.where))
        elif one.declaration is None and one.method not in _READING and not _bindings_of(one, bindings, whole):
            text = f"{one.key} ({one.name}) may change something and is not mapped, so that it {_UNMAPPED[unmapped]}"
            findings.append(Finding(UNMAPPED, text, one.where))
        mapped = _bindings_of(one, bindings, whole)
        findings += (*_misread(one, mapped), *_unread(one, mapped))
    findings += [
        Finding(
            INNER_MIDDLEWARE,
            f"inner_middleware: {name} stands between the fence and the handlers and may change what they act on; "
            "put it outside the fence, or name it under inner_middleware",
        )
        for name in listing.layers
        if name not in allowed_inner
    ]
    return findings


def _misread(endpoint: Endpoint, found: Mapping[str, Binding]) -> Iterator[Finding]:
    if endpoint.misread is None:
        return
    for binding in found.values():
        for source in binding.sources:
            counts = endpoint.misread(source)
            if counts:
                text = (
                    f"{binding.key} reads {source.label}, and {endpoint.name} takes {counts} before it; write {counts}"
                )
                yield Finding(MISREAD, text, endpoint.where)


def _unread(endpoint: Endpoint, found: Mapping[str, Binding]) -> Iterator[Finding]:
    if endpoint.unread is None:
        return
    for binding in found.values():
        for source in dict.fromkeys(binding.sources):
            taken = endpoint.unread(source)
            if taken is not None:
                kind, names = source.kind, [one.removeprefix(source.kind) for one in taken]
                near = difflib.get_close_matches(source.label.removeprefix(kind), names, n=1)
                hint = f"did you mean {kind}{near[0]}?" if near else "correct the policy, or let the handler take it"
                text = f"{binding.key} reads {source.label}, which {endpoint.name} does not take; {hint}"
                yield Finding(UNREAD, text, endpoint.where)


def _by_template(bindings: Mapping[str, Binding]) -> dict[str, dict[str, Binding]]:
    found: dict[str, dict[str, Binding]] = {}
    for key, binding in bindings.items():
        method, _, template = key.partition(" ")
        found.setdefault(template, {})[method] = binding
    return found


def _bindings_of(
    endpoint: Endpoint,
    bindings: Mapping[str, Binding],
    whole: Mapping[str, Mapping[str, Binding]],
) -> Mapping[str, Binding]:
    """The bindings an endpoint falls under, by method."""
    if endpoint.method == ANY_METHOD:
        return whole.get(normal(endpoint.template), {})
    found = bindings.get(endpoint.key)
    return {endpoint.method: found} if found is not None else {}


def _covered(endpoint: Endpoint, found: Mapping[str, Binding], source: str) -> Covered:
    names = dict.fromkeys("public" if one.public else one.capability for one in found.values())
    places = dict.fromkeys(one.where or (f"{source}:{one.line}" if one.line else source) for one in found.values())
    some = endpoint.method == ANY_METHOD and not found.keys() >= {*EVERY}
    return Covered(
        endpoint=endpoint.key,
        capability=", ".join(names) or "unmapped",
        handler=endpoint.name,
        bound=", ".join(places),
        methods=(*found,) if some else (),
    )


def _collisions(bindings: Mapping[str, Binding], endpoints: Sequence[Endpoint]) -> list[Finding]:
    """Endpoints whose templates differ only in what the normal form drops: one binding would mean them all."""
    spelled: dict[str, dict[str, None]] = {}
    for one in endpoints:
        if one.key in bindings:
            spelled.setdefault(one.key, {})[one.template] = None
    return [
        Finding(AMBIGUOUS, f"{key} would mean {' and '.join(templates)}; give a parameter of one another name")
        for key, templates in spelled.items()
        if len(templates) > 1
    ]


def _near(key: str, exact: Collection[str], whole: Collection[str]) -> str:
    """What may have been meant by a key that is not there, as the end of a sentence."""
    method, _, template = key.partition(" ")
    if method == "HEAD" and f"GET {template}" in exact:
        near = [f"GET {template}"]
    else:
        offers = sorted([*exact, *(f"{method} {one}" for one in whole)])
        near = difflib.get_close_matches(key, offers, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
