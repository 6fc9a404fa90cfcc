"""What no single value of the file can tell: names that stand twice, keys that exclude each other, currencies.

It looks at the plain tree and not at a `Config`, so that its findings stand beside those of the schema. What is of the
wrong type is passed over here: the schema reports it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.config.agent_checks import agent_faults, jwks_faults
from afmiddleware.config.conditions import Known, faults, money_fault
from afmiddleware.config.identity_schema import FAMILIES
from afmiddleware.config.ledger_url import MEMORY, MEMORY_SHARES_NOTHING
from afmiddleware.config.mapping_checks import FIELDS, amount_faults, media_fault, names_its_currency, sources_in
from afmiddleware.config.policy_checks import actor_faults, known_lists, list_faults, named, schedule_faults
from afmiddleware.config.protocol_checks import protocol_faults
from afmiddleware.config.texts import check_currency
from afmiddleware.config.tree import Path, Problem, Tree, spelled
from afmiddleware.errors import MoneyError
from afmiddleware.grammar.currencies import ISO_4217
from afmiddleware.grammar.quoting import quoted
from afmiddleware.grammar.templates import parameters
from afmiddleware.model.money import exponent_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCES: Final = ("jwks", "jwks_file", "jwks_uri", "discovery")
_ENDS: Final = ("settle", "on_outcome", "idempotency", "on_unknown", "on_expiry", "reference", "refunds")
_READ: Final = (*FIELDS, "risk", "protocol", "media", "max_body", "applies_to", *_ENDS)
_NEEDED_CLAIMS: Final = ("exp", "iat", "iss", "aud", "sub")
_MAX_DIGITS: Final = 18
_DIGITS: Final = re.compile(r"[0-9]{1,2}", re.ASCII)
_NOBODY: Final = "without a session of the application's own nobody can be told from an agent; add identity.from_app"


def check(tree: Tree) -> None:
    """Note in `tree.problems` all that is wrong with the file as a whole."""
    checks = _Checks(tree)
    checks.assets()
    checks.routes()
    checks.rules()
    checks.named()
    checks.limits()
    checks.issuers()
    checks.rates()
    for path, text in agent_faults(tree.value):
        at = tree.keys.get(path) or tree.place(path)
        tree.problems.append(Problem(*at, f"{spelled(path)}: {text}"))


def entries(tree: Tree, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The maps of the list at `path`, each with its own path. Nothing where there is no list."""
    value = tree.value
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, list):
        for place, entry in enumerate(value):
            if isinstance(entry, dict):
                yield (*path, place), entry


class _Checks:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._exponents = self._declared()

    def _declared(self) -> dict[str, int]:
        """The currencies of the file. One whose digits are wrong counts as known: that is said once, by the schema."""
        found = self._tree.value.get("assets")
        known: dict[str, int] = {}
        for name, asset in found.items() if isinstance(found, dict) else ():
            digits = asset.get("exponent") if isinstance(asset, dict) else None
            plain = _DIGITS.fullmatch(digits) if isinstance(digits, str) else None
            known[name] = min(int(plain[0]), _MAX_DIGITS) if plain else _MAX_DIGITS
        return known

    def rates(self) -> None:
        """Shared rates need a ledger that remembers that they were counted."""
        if isinstance(self._tree.value.get("rates"), str) and self._tree.value.get("ledger") in MEMORY:
            self._say_key(("rates",), MEMORY_SHARES_NOTHING)

    def _say(self, path: Path, text: str) -> None:
        self._tree.problems.append(Problem(*self._tree.place(path), f"{spelled(path)}: {text}"))

    def _say_key(self, path: Path, text: str) -> None:
        """Note a problem at a key and not at its value."""
        place = self._tree.keys.get(path) or self._tree.place(path)
        self._tree.problems.append(Problem(*place, f"{spelled(path)}: {text}"))

    def _money(self, path: Path, value: Any) -> None:
        if isinstance(value, str) and value.strip() and value.isprintable() and path not in self._tree.broken:
            fault = money_fault(value, self._exponents)
            if fault:
                self._say(path, fault)

    def _code(self, path: Path, value: Any) -> None:
        if not isinstance(value, str):
            return
        try:
            check_currency(value)
            exponent_of(value, self._exponents)
        except MoneyError as error:
            self._say(path, str(error))
        except ValueError:
            return  # The schema says what a code looks like.

    def _twice(self, path: Path, name: Any, seen: dict[str, int], what: str) -> None:
        if not isinstance(name, str) or not name:
            return
        if name in seen:
            self._say(path, f"{what} {quoted(name)} stands already on line {seen[name]}; keep one of them")
        else:
            seen[name] = self._tree.place(path)[0]

    def assets(self) -> None:
        for name, digits in self._exponents.items():
            path: Path = ("assets", name)
            if ISO_4217.get(name, digits) != digits:
                text = f"{name} is an ISO 4217 currency with {ISO_4217[name]} digits; leave it out, or use another name"
                self._say_key(path, text)
        self._code(("currency",), self._tree.value.get("currency"))

    def routes(self) -> None:
        seen: dict[str, int] = {}
        for path, route in entries(self._tree, ("routes",)):
            self._route(path, route)
            self._twice((*path, "route"), route.get("route"), seen, "the endpoint")

    def _route(self, path: Path, route: dict[str, Any]) -> None:
        public, text = route.get("public") == "true", route.get("route")
        method, template = text.partition(" ")[::2] if isinstance(text, str) else ("", "")
        if public and "capability" in route:
            self._say_key((*path, "capability"), "a public route has no capability; remove it, or public")
        elif route.get("public", "false") == "false" and "capability" not in route:
            self._say(path, "a route needs a capability; name one, or write public: true")
        if method == "WEBSOCKET" and not public:
            self._say(
                (*path, "route"), "a WebSocket can only be public, for its messages are not judged; write public: true"
            )
        for name in _READ if public else ():
            if name in route:
                self._say_key((*path, name), f"a public route is not judged, so it has no {name}; remove it")
        self._amount(path, route)
        fault = media_fault(route)
        if fault:
            self._say((*path, "media"), fault)
        if route.get("applies_to", "all") != "all" and not self._knows_people():
            self._say((*path, "applies_to"), _NOBODY)
        for where, said in protocol_faults(route, self._exponents):
            self._say((*path, *where), said)
        for name in FIELDS if template else ():
            self._parameters((*path, name), route.get(name), template)
        refunds = route.get("refunds")
        if template and isinstance(refunds, dict) and isinstance(refunds.get("of"), str):
            self._parameters((*path, "refunds", "of"), f"{{{refunds['of']}}}", template)

    def _knows_people(self) -> bool:
        identity = self._tree.value.get("identity")
        return isinstance(identity, dict) and "from_app" in identity

    def _amount(self, path: Path, route: dict[str, Any]) -> None:
        amount, currency = route.get("amount"), route.get("currency")
        self._money((*path, "amount"), amount)
        self._code((*path, "currency"), currency)
        for where, text in amount_faults(amount, self._exponents) if isinstance(amount, dict) else ():
            self._say((*path, "amount", *where), text)
        if currency is not None and amount is None and not ("refunds" in route and isinstance(currency, str)):
            self._say_key((*path, "currency"), "a currency without an amount means nothing; add amount, or remove it")
        elif currency is not None and names_its_currency(amount):
            self._say_key((*path, "currency"), "a fixed amount names its currency itself; remove this one")

    def _parameters(self, path: Path, value: Any, template: str) -> None:
        """Whether what is read from the path stands in the template."""
        known = parameters(template)
        for where, source in sources_in(value):
            if source.kind == "path" and source.name not in known:
                text = f"{source.label} names no parameter of {template}; use one of its own names"
                self._say((*path, *where), text)

    def rules(self) -> None:
        seen: dict[str, int] = {}
        known = self._known()
        for kind in ("deny", "require_approval", "allow"):
            for path, rule in entries(self._tree, ("rules", kind)):
                name = rule.get("id")
                self._twice((*path, "id"), name, seen, "a rule with the id")
                if isinstance(name, str) and ("[" in name or name.startswith("risk.")):
                    alike = "of levels of risk, risk.high" if "[" not in name else f"of rules without one, {kind}[1]"
                    text = f"{quoted(name)} is like the ids {alike}; write another one"
                    self._say((*path, "id"), text)
                proven = kind == "allow" and rule.get("applies_to") == "proven_agents"
                if not proven and rule.get("applies_to", "all") != "all" and not self._knows_people():
                    self._say((*path, "applies_to"), _NOBODY)
                if kind == "allow":
                    self._money((*path, "max_amount"), rule.get("max_amount"))
                    self._codes((*path, "currency"), rule)
                if "when" in rule and (*path, "when") not in self._tree.broken:
                    for where, text in faults(rule["when"], known):
                        here = (*path, "when", *where)
                        if here not in self._tree.broken:
                            self._say(here, text)

    def _known(self) -> Known:
        lists, normalized = known_lists(self._tree.value)
        return Known(self._exponents, lists, normalized, frozenset(named(self._tree.value, "schedules")))

    def _codes(self, path: Path, rule: dict[str, Any]) -> None:
        """The currencies that a rule demands, which must be that of its cap where it has one."""
        found, cap = rule.get("currency"), rule.get("max_amount")
        codes = [(path, found)] if isinstance(found, str) else []
        codes += [((*path, place), one) for place, one in enumerate(found if isinstance(found, list) else ())]
        for where, one in codes:
            self._code(where, one)
        if codes and isinstance(cap, str) and cap.partition(" ")[2] not in {one for _, one in codes}:
            self._say_key(path, "the cap is in another currency, so nothing meets both; write the same currency")

    def named(self) -> None:
        """Lists, schedules and actors, and the limits that these name."""
        for where, text in (
            *list_faults(self._tree.value),
            *schedule_faults(self._tree.value),
            *actor_faults(self._tree.value, self._exponents),
        ):
            if where not in self._tree.broken:
                self._say_key(where, text)

    def limits(self) -> None:
        seen: dict[str, int] = {}
        for path, limit in entries(self._tree, ("limits",)):
            self._twice((*path, "name"), limit.get("name"), seen, "a limit with the name")
            rate, spend, window = "rate" in limit, "spend" in limit, "window" in limit
            crowd = "concurrent" in limit
            self._money((*path, "spend"), limit.get("spend"))
            self._claimed(path, limit)
            if rate and spend:
                self._say_key((*path, "spend"), "a limit has a rate or a spend, not both; write two limits")
            elif crowd and (rate or spend):
                self._say_key((*path, "concurrent"), "a limit counts one thing; write two limits")
            elif not rate and not spend and not crowd:
                self._say(path, "a limit needs a rate or a spend; write one, such as rate: 30/minute")
            elif crowd and window:
                self._say_key((*path, "window"), "what runs at once has no window; remove it")
            elif rate and window:
                self._say_key((*path, "window"), "a rate names its own window, such as 30/minute; remove window")
            elif spend and not window:
                self._say(path, "a spend needs a window; write window: day (or total, or rolling 60m)")
            self._limit_words(path, limit)

    def _claimed(self, path: Path, limit: dict[str, Any]) -> None:
        """A cap that each caller's token says."""
        spend = limit.get("spend")
        if not isinstance(spend, dict):
            return
        self._code((*path, "spend", "currency"), spend.get("currency"))
        per, identity = limit.get("per", "actor"), self._tree.value.get("identity")
        if {"actor", "principal", "session"}.isdisjoint(per if isinstance(per, list) else [per]):
            self._say_key((*path, "spend"), "a cap of each caller's own is counted for each; write per: actor")
        if not isinstance(identity, dict) or {"jwt", "introspection"}.isdisjoint(identity):
            self._say_key((*path, "spend"), "without tokens there are no claims; add identity.jwt")

    def _limit_words(self, path: Path, limit: dict[str, Any]) -> None:
        """What stands beside a limit that is of another kind."""
        paced, window = limit.get("style") == "pacing", limit.get("window")
        for name in ("style", "counts"):
            if name in limit and "rate" not in limit:
                self._say_key((*path, name), f"{name} is said of a rate only; remove it")
        if "on_exceed" in limit and "spend" not in limit:
            self._say_key((*path, "on_exceed"), "on_exceed is said of a spend only; remove it")
        for name in ("half_open", "free"):
            if name in limit and limit.get("on_exceed") != "trip":
                self._say_key((*path, name), f"{name} is said of on_exceed: trip only; remove it")
        if "burst" in limit and not paced:
            self._say_key((*path, "burst"), "a burst is said of style: pacing only; add that, or remove burst")
        if "week_start" in limit and window != "week":
            self._say_key((*path, "week_start"), "a week's first day is said of window: week only; remove it")
        per = limit.get("per", "actor")
        if window == "session" and "session" not in (per if isinstance(per, list) else [per]):
            self._say((*path, "window"), "the window session is counted per session; write per: session")

    def issuers(self) -> None:
        seen: dict[str, int] = {}
        identity = self._tree.value.get("identity")
        origins = identity.get("public_origins") if isinstance(identity, dict) else None
        for path, issuer in entries(self._tree, ("identity", "jwt", "issuers")):
            self._twice((*path, "issuer"), issuer.get("issuer"), seen, "the issuer")
            sources = [name for name in _SOURCES if name in issuer]
            for name in sources[1:]:
                self._say_key(
                    (*path, name), f"an issuer has one source of keys, and this one has {sources[0]}; keep one"
                )
            if not sources:
                self._say(path, f"an issuer needs a source of keys; write one of {', '.join(_SOURCES)}")
            if issuer.get("require_binding") in ("dpop", "any") and not origins:
                what = "a DPoP proof is compared with the service's own URL"
                self._say((*path, "require_binding"), f"{what}; write identity.public_origins")
            for where, said in jwks_faults(issuer.get("jwks")):
                self._say((*path, "jwks", *where), said)
            self._algorithms((*path, "algorithms"), issuer.get("algorithms"))
            required = issuer.get("require")
            missing = [claim for claim in _NEEDED_CLAIMS if isinstance(required, list) and claim not in required]
            if missing:
                self._say((*path, "require"), f"tokens are judged by {', '.join(missing)} too; add what is missing")

    def _algorithms(self, path: Path, names: Any) -> None:
        families = [FAMILIES[name] for name in names if name in FAMILIES] if _texts(names) else []
        if len(set(families)) > 1:
            self._say(path, "the algorithms are of several families; use only RS and PS, only ES, or only EdDSA")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
