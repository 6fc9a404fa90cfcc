"""Signed requests: what is accepted, and everything that has to be refused. Numbers are cases of the research."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from afmiddleware.errors import IdentityUnavailableError
from afmiddleware.identity.directory import read_directory
from afmiddleware.identity.needs import NeedKeySet, NeedOnce
from afmiddleware.identity.origin import Origins
from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok, Unavailable
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.tier import Tier
from tests.signing import DEFAULT, DIGEST, Signer

signatures = pytest.importorskip("afmiddleware.identity.signatures")

NOW = 1_795_262_400
API = "https://api.example.com"
BODY = b'{"amount": "5.00"}'


def facts(method: str = "GET", path: str = "/pay", query: str = "", headers: Any = (), host: str = "api.example.com"):
    lines = [(b"host", host.encode()), *((name.encode(), value.encode("latin-1")) for name, value in headers)]
    return HttpFacts(method=method, path=path, raw_path=path.encode(), query=query.encode(), headers=tuple(lines))


class Bench:
    """One listed agent, and who checks its signatures."""

    def __init__(self, **settings: Any) -> None:
        self.signer = Signer()
        self.keys: Any = read_directory(self.signer.jwks)
        agent = signatures.Agent(
            origin=self.signer.origin, source="agent:x", snapshot=lambda: self.keys, scopes=frozenset({"pay"})
        )
        self.checks = signatures.Signatures([agent], Origins([API]), **settings)
        self.used: set[str] = set()
        self.asked: list[str] = []

    def get(self, url: str = f"{API}/pay", method: str = "GET", **changes: Any) -> Identified:
        headers = self.signer.sign(method, url, now=NOW, **changes)
        return self.check(facts(method, headers=headers))

    def post(self, body: bytes = BODY, sent: bytes | None = None, **changes: Any) -> Identified:
        length = [("content-length", str(len(body if sent is None else sent)))]
        headers = self.signer.sign("POST", f"{API}/pay", body, now=NOW, **changes)
        return self.check(facts("POST", headers=[*headers, *length]))

    def check(self, asked: HttpFacts, spends: bool = False, observe: bool = False, now: int = NOW) -> Identified:
        flow = self.checks.check(asked, now * 1_000_000, spends=spends, observe=observe)
        try:
            need = next(flow)
            while True:
                if isinstance(need, NeedOnce):
                    first = need.key not in self.used
                    self.used.add(need.key)
                    need = flow.send(first)
                else:
                    assert isinstance(need, NeedKeySet)
                    self.asked.append(need.kid)
                    if self.keys is None:
                        need = flow.throw(IdentityUnavailableError("no keys", retry_after=5))
                    need = flow.send(self.keys)
        except StopIteration as stop:
            found: Identified = stop.value
            return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def why(found: Identified) -> str:
    assert isinstance(found, Invalid), found
    assert found.code == "identity.invalid"
    return found.detail


def test_a_listed_agent_is_verified_by_possession(bench: Bench) -> None:
    found = bench.get()
    assert isinstance(found, Ok)
    actor = found.actor
    assert (actor.id, actor.tier, actor.proof) == ("wba:https://agent.example", Tier.VERIFIED, "possession")
    assert actor.credential == f"keyid:{bench.signer.keyid}"
    assert actor.scopes == {"pay"}


def test_what_changes_something_is_signed_with_its_body(bench: Bench) -> None:
    found = bench.post()
    assert isinstance(found, Ok)
    assert found.signs is not None
    assert found.signs(BODY)
    # 56
    for other in (b"", BODY + b" ", BODY[:-1], b'{"amount": "50.0"}'):
        assert not found.signs(other)


def test_without_a_digest_there_is_no_body(bench: Bench) -> None:
    found = bench.get(method="DELETE")
    assert isinstance(found, Ok)
    assert found.signs is not None
    assert found.signs(b"")
    assert not found.signs(b"x")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lacks": ("@authority",)}, "@authority is not covered"),  # 50: no request target
        ({"expires": None}, "created or expires"),
        ({"created": None}, "created or expires"),
        ({"expires": NOW - 6, "created": NOW - 100}, "expired"),
        ({"created": NOW + 31, "expires": NOW + 60}, "future"),
        ({"expires": NOW, "created": NOW}, "longer"),
        ({"expires": NOW - 10, "created": NOW}, "longer"),
        ({"expires": NOW + 3601}, "longer"),
        ({"expires": NOW + 7 * 86400}, "longer"),  # 58
        ({"created": f"{NOW}.0"}, "created or expires"),
        ({"created": "?1"}, "created or expires"),
        ({"created": f'"{NOW}"'}, "created or expires"),
        ({"values": {"@authority": "evil.example"}}, "verify"),  # 52
        ({"values": {"@path": ""}}, "verify"),  # empty @path where / is meant
        ({"components": (*DEFAULT, "date"), "values": {"date": "x"}}, "verify"),  # covered, and not there
        ({"components": (*DEFAULT, "@status"), "values": {"@status": "200"}}, "unknown kind"),
        ({"components": (*DEFAULT, "@request-target"), "values": {"@request-target": "/pay"}}, "unknown kind"),
        ({"components": (*DEFAULT, "host;bs"), "values": {"host;bs": "x"}}, "unknown kind"),
        ({"components": (*DEFAULT, "host;tr"), "values": {"host;tr": "x"}}, "unknown kind"),
        ({"components": (*DEFAULT, "@method;req"), "values": {"@method;req": "GET"}}, "unknown kind"),
        ({"components": (*DEFAULT, "Host"), "values": {"Host": "x"}}, "unknown kind"),
        ({"components": (*DEFAULT, "@method")}, "twice"),
        ({"components": DEFAULT[:-1]}, "no covered member"),
        ({"components": DEFAULT * 4}, "at most 16"),
        ({"agent": 'sig1="http://agent.example"'}, "not https"),
        ({"agent": "sig1"}, "no string"),
        ({"agent": "sig1=1"}, "no string"),
        ({"agent": 'a="https://x.example", b="https://agent.example"'}, "no covered member"),
        ({"agent": 'sig1="https://agent.example'}, "cannot be read"),
        ({"agent": '"https://agent.example"'}, "not covered"),
        ({"keyid": '"nobody"'}, "not in the agent's directory"),
        ({"keyid": None}, "no usable keyid"),
        ({"keyid": f'"{"k" * 129}"'}, "no usable keyid"),
        ({"keyid": "7"}, "no usable keyid"),
        ({"alg": '"hmac-sha256"'}, "verify"),  # 63
        ({"alg": '"rsa-pss-sha512"'}, "verify"),
        ({"colour": '"red"'}, "verify"),
    ],
)
def test_negative_classes(bench: Bench, changes: dict[str, Any], says: str) -> None:
    assert isinstance(bench.get(), Ok)
    assert says in why(bench.get(**changes))


@pytest.mark.parametrize("lacks", ["@method", "@authority", "@path", DIGEST])
def test_what_acts_is_covered_as_a_whole(bench: Bench, lacks: str) -> None:  # 55
    assert isinstance(bench.post(), Ok)
    assert f"{lacks} is not covered" in why(bench.post(lacks=(lacks,)))


def test_a_query_is_covered_with_what_acts(bench: Bench) -> None:
    headers = bench.signer.sign("POST", f"{API}/pay?to=me", now=NOW, lacks=("@query",))
    assert "@query is not covered" in why(bench.check(facts("POST", query="to=me", headers=headers)))
    whole = ("@method", "@target-uri", 'signature-agent;key="sig1"')
    headers = bench.signer.sign("POST", f"{API}/pay?to=me", now=NOW, components=whole)
    assert isinstance(bench.check(facts("POST", query="to=me", headers=headers)), Ok)
    assert "verify" in why(bench.check(facts("POST", query="to=you", headers=headers)))


def test_what_costs_something_is_covered_whatever_its_method(bench: Bench) -> None:
    headers = bench.signer.sign("GET", f"{API}/pay", now=NOW, components=("@authority", 'signature-agent;key="sig1"'))
    asked = facts(headers=headers)
    assert isinstance(bench.check(asked), Ok)
    assert "@method is not covered" in why(bench.check(asked, spends=True))
    everything = Bench(coverage="all")
    headers = everything.signer.sign(
        "GET", f"{API}/pay", now=NOW, components=("@authority", 'signature-agent;key="sig1"')
    )
    assert "@method is not covered" in why(everything.check(facts(headers=headers)))


def test_a_nonce_is_used_once(bench: Bench) -> None:  # 57
    headers = bench.signer.sign("POST", f"{API}/pay", now=NOW)
    asked = facts("POST", headers=headers)
    assert isinstance(bench.check(asked), Ok)
    assert "nonce was used" in why(bench.check(asked))
    assert "no usable nonce" in why(bench.get(method="POST", nonce=None))
    assert "no usable nonce" in why(bench.get(method="POST", nonce='""'))
    assert "no usable nonce" in why(bench.get(method="POST", nonce=f'"{"n" * 257}"'))


def test_reading_uses_up_no_nonce_unless_everything_does(bench: Bench) -> None:
    assert isinstance(bench.get(nonce=None), Ok)
    assert not bench.used
    every = Bench(replay="all")
    assert "no usable nonce" in why(every.get(nonce=None))
    none = Bench(replay="off")
    assert isinstance(none.get(method="POST", nonce=None), Ok)


def test_a_nonce_is_not_used_up_by_a_signature_that_is_not_good(bench: Bench) -> None:
    bench.get(method="POST", alg='"rsa-pss-sha512"')
    bench.get(method="POST", keyid='"nobody"')
    assert not bench.used


def test_observing_uses_nothing_up(bench: Bench) -> None:
    headers = bench.signer.sign("POST", f"{API}/pay", now=NOW)
    assert isinstance(bench.check(facts("POST", headers=headers), observe=True), Ok)
    assert not bench.used


def test_a_key_belongs_to_its_agent() -> None:  # 59
    one, other = Signer("https://one.example"), Signer("https://other.example")
    agents = [
        signatures.Agent(origin=signer.origin, source=signer.origin, snapshot=partial(read_directory, signer.jwks))
        for signer in (one, other)
    ]
    bench = Bench()
    bench.checks, bench.keys = signatures.Signatures(agents, Origins([API])), read_directory(other.jwks)
    headers = one.sign(
        "GET",
        f"{API}/pay",
        now=NOW,
        agent='sig1="https://other.example"',
        values={'signature-agent;key="sig1"': '"https://other.example"'},
    )
    assert "not in the agent's directory" in why(bench.check(facts(headers=headers)))


def test_an_unlisted_agent_has_proven_nothing_and_nothing_is_fetched(bench: Bench) -> None:  # 60
    stranger = Signer("https://stranger.example")
    found = bench.check(facts(headers=stranger.sign("GET", f"{API}/pay", now=NOW)))
    assert found == Absent(("signature:unlisted",))
    assert bench.asked == []


@pytest.mark.parametrize(
    "agent",
    [
        None,  # 49
        'sig1="https://agent.example/keys.json"',  # 51
        'sig1="https://agent.example?x"',
        'sig1="https://agent.example";type=jwks_uri',
    ],
)
def test_a_signature_of_nobody_in_particular(bench: Bench, agent: str | None) -> None:
    assert bench.get(agent=agent) == Absent(("signature:unattributed",))


@pytest.mark.parametrize(
    "agent", ['sig1="https://user@agent.example"', 'sig1="https://:x"', 'sig1="agent.example"', 'sig1=""']
)
def test_a_signature_agent_that_is_no_url(bench: Bench, agent: str) -> None:
    assert "Signature-Agent" in why(bench.get(agent=agent))


def test_the_directory_itself_and_spellings_of_an_origin_name_the_same_agent(bench: Bench) -> None:
    for origin in (
        "https://agent.example/.well-known/http-message-signatures-directory",
        "https://AGENT.example:443",
        "https://agent.example/",
    ):
        told = {'signature-agent;key="sig1"': f'"{origin}"'}
        assert isinstance(bench.get(agent=f'sig1="{origin}"', values=told), Ok)


def test_the_bare_string_form(bench: Bench) -> None:
    parts = ("@authority", "signature-agent")
    assert isinstance(bench.get(agent='"https://agent.example"', components=parts), Ok)
    assert "not covered" in why(bench.get(agent='"https://agent.example"', components=("@authority",)))
    assert "cannot be read" in why(bench.get(agent='"https://agent.example", "https://x.example"', components=parts))


def test_other_signatures_are_not_ours(bench: Bench) -> None:  # 62
    assert bench.get(tag=None) == Absent()
    assert bench.get(tag='"other"') == Absent()
    assert bench.get(tag="web-bot-auth") == Absent()
    assert bench.check(facts(headers=[("signature", "keyId=1")])) == Absent()
    ours = dict(bench.signer.sign("GET", f"{API}/pay", now=NOW))
    theirs = dict(bench.signer.sign("GET", f"{API}/pay", now=NOW, label="proxy", tag='"proxy"'))
    both = [(name, f"{theirs[name]}, {ours[name]}") for name in ("signature-input", "signature")]
    both.append(("signature-agent", ours["signature-agent"]))
    assert isinstance(bench.check(facts(headers=both)), Ok)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signature-input", 'sig1=("@authority";created=1'),
        ("signature-input", 'sig1="x";tag="web-bot-auth"'),
        ("signature-input", "\xff"),
        ("signature", "sig1=1"),
        ("signature", 'sig1="x"'),
        ("signature", "sig2=:AA==:"),
        ("signature", "sig1=:AA"),
        ("signature", ""),
    ],
)
def test_fields_that_cannot_be_read(bench: Bench, name: str, value: str) -> None:
    headers = [(key, value if key == name else good) for key, good in bench.signer.sign("GET", f"{API}/pay", now=NOW)]
    assert isinstance(bench.check(facts(headers=headers)), Invalid)


def ambiguous(found: Identified) -> bool:
    return isinstance(found, Invalid) and found.code == "request.ambiguous"


def test_two_of_ours_are_ambiguous(bench: Bench) -> None:  # 61, 65
    one, two = (bench.signer.sign("GET", f"{API}/pay", now=NOW, label=label) for label in ("sig1", "sig2"))
    assert ambiguous(bench.check(facts(headers=[*one, *two])))
    again = [pair for pair in one if pair[0] != "signature-agent"]
    assert ambiguous(bench.check(facts(headers=[*one, *again])))
    five = [bench.signer.sign("GET", f"{API}/pay", now=NOW, label=f"l{n}", tag='"x"') for n in range(5)]
    assert ambiguous(bench.check(facts(headers=[pair for pairs in five for pair in pairs])))


@pytest.mark.parametrize("name", ["signature-input", "signature", "signature-agent"])
def test_long_fields_are_not_even_parsed(bench: Bench, name: str) -> None:  # 64
    long = {"signature-input": f'sig1=();x="{"a" * 9000}"', "signature": f"sig1=:{'A' * 9000}:"}.get(name, "a" * 1100)
    headers = [(key, long if key == name else good) for key, good in bench.signer.sign("GET", f"{API}/pay", now=NOW)]
    assert ambiguous(bench.check(facts(headers=headers)))


def test_a_duplicate_parameter_is_ambiguous(bench: Bench) -> None:
    headers = bench.signer.sign("GET", f"{API}/pay", now=NOW)
    twice = [(name, f'{value};nonce="x"' if name == "signature-input" else value) for name, value in headers]
    assert ambiguous(bench.check(facts(headers=twice)))


def test_the_origin_is_the_policys_and_not_the_requests(bench: Bench) -> None:  # 53
    elsewhere = bench.signer.sign("GET", "https://evil.example/pay", now=NOW)
    assert "verify" in why(bench.check(facts(headers=elsewhere, host="evil.example")))
    here = bench.signer.sign("GET", f"{API}/pay", now=NOW)
    assert isinstance(bench.check(facts(headers=here, host="10.0.0.7:8000")), Ok)


def test_the_path_as_it_was_written(bench: Bench) -> None:  # 67
    headers = bench.signer.sign("GET", f"{API}/pay%20me", now=NOW)
    lines = tuple((name.encode(), value.encode()) for name, value in headers)
    raw = HttpFacts(method="GET", path="/pay me", raw_path=b"/pay%20me", headers=lines)
    assert isinstance(bench.check(raw), Ok)
    # Without it nothing is guessed.
    assert "how the path was written" in why(bench.check(HttpFacts(method="GET", path="/pay me", headers=lines)))
    plain = bench.signer.sign("GET", f"{API}/pay", now=NOW)
    lines = tuple((name.encode(), value.encode()) for name, value in plain)
    assert isinstance(bench.check(HttpFacts(method="GET", path="/pay", headers=lines)), Ok)


def test_keys_that_cannot_be_had(bench: Bench) -> None:  # 68
    bench.keys = None
    assert isinstance(bench.get(), Unavailable)


def test_a_key_outside_of_its_time() -> None:
    bench = Bench()
    for period, good in (({"nbf": NOW + 1}, False), ({"exp": NOW}, False), ({"nbf": NOW, "exp": NOW + 1}, True)):
        bench.keys = read_directory({"keys": [{**bench.signer.jwk, **period}]})
        assert isinstance(bench.get(), Ok) is good


def test_clocks_may_differ_a_little(bench: Bench) -> None:
    asked = facts(headers=bench.signer.sign("GET", f"{API}/pay", now=NOW))
    for seconds, good in ((-31, False), (-30, True), (305, True), (306, False)):
        assert isinstance(bench.check(asked, now=NOW + seconds), Ok) is good


def test_a_changed_byte_anywhere_in_the_signature(bench: Bench) -> None:
    headers = dict(bench.signer.sign("GET", f"{API}/pay", now=NOW))
    start = len("sig1=:")
    for place in range(start, start + 85):
        made = headers["signature"]
        other = "A" if made[place] != "A" else "B"
        changed = headers | {"signature": made[:place] + other + made[place + 1 :]}
        assert isinstance(bench.check(facts(headers=list(changed.items()))), Invalid)
