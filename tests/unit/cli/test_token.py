"""Tokens on the command line: made for development, looked at, taken back."""

from __future__ import annotations

import json
import stat

import pytest

from afmiddleware.testing import mint_es256_issuer

POLICY = """
version: 1
service: s
ledger: sqlite:///fence.db
identity:
  api_keys: {store: ledger}
  jwt:
    issuers:
      - {issuer: "https://dev.example", audience: api, algorithms: [ALGORITHM], jwks_file: dev-jwks.json, typ: [at+jwt]}
      - {issuer: "https://as.example", audience: api, algorithms: [ES256], discovery: oidc}
"""


@pytest.fixture(params=["ES256"])
def policy(request, tmp_path):
    place = tmp_path / "fence.yaml"
    place.write_text(POLICY.replace("ALGORITHM", request.param), encoding="utf-8")
    return place


@pytest.mark.parametrize("policy", ["ES256", "ES384", "EdDSA", "RS256", "PS256"], indirect=True)
def test_a_token_that_is_made_is_good(afm, policy):
    ran = afm("token", "mint", "--sub", "alice", "--scope", "a.b", "--claim", 'roles=["ops"]', "--policy", policy)
    assert ran.code == 0
    told = afm("token", "inspect", ran.out.strip(), "--policy", policy, "--json").json
    assert told["good"] is True
    assert (told["actor"]["id"], told["actor"]["tier"]) == ("jwt:https://dev.example|alice", "verified")
    assert (told["actor"]["scopes"], told["actor"]["roles"]) == (["a.b"], ["ops"])
    again = afm("token", "mint", "--policy", policy)
    assert afm("token", "inspect", again.out.strip(), "--policy", policy).out.endswith("good\n")


def test_the_private_key_is_its_owners_alone(afm, policy):
    afm("token", "mint", "--policy", policy)
    private = policy.with_name("dev-jwks.json.private")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "d" not in json.loads(policy.with_name("dev-jwks.json").read_text())["keys"][0]


def test_a_key_set_of_another_make_is_left_alone(afm, policy):
    policy.with_name("dev-jwks.json").write_text('{"keys": []}', encoding="utf-8")
    ran = afm("token", "mint", "--policy", policy)
    assert (ran.code, "was not made here" in ran.err) == (2, True)
    assert not policy.with_name("dev-jwks.json.private").exists()


INLINE = '{issuer: "https://in.example", audience: api, algorithms: [ES256], jwks: {keys: [JWK]}}'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--issuer", "https://as.example"],
            "no token can be made for https://as.example, whose keys are fetched; name",
        ),
        (["--issuer", "https://in.example"], "for https://in.example, whose keys stand in the policy itself; name"),
        (
            ["--issuer", "https://no.example"],
            "no issuer of the policy is https://no.example; it has https://dev.example, https://as.example",
        ),
        (["--life", "long"], "Invalid value for --life: "),
        (["--claim", "nothing"], "Invalid value for --claim: 'nothing' is not a claim; write NAME=JSON"),
    ],
)
def test_what_cannot_be_minted(afm, policy, arguments, said):
    jwk = json.dumps(mint_es256_issuer().jwks["keys"][0])
    policy.write_text(policy.read_text() + f"      - {INLINE.replace('JWK', jwk)}\n", encoding="utf-8")
    ran = afm("token", "mint", *arguments, "--policy", policy)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert not policy.with_name("dev-jwks.json.private").exists()


def test_which_issuers_have_a_file_is_said_where_one_must_be_chosen(afm, policy):
    two = '      - {issuer: "https://b.example", audience: api, algorithms: [ES256], jwks_file: b.json}\n'
    policy.write_text(policy.read_text() + two, encoding="utf-8")
    ran = afm("token", "mint", "--policy", policy)
    assert ran.code == 2
    assert "https://dev.example, https://b.example; name one with --issuer" in ran.err


def test_a_key_file_that_is_not_there_is_named_with_its_line(afm, policy):
    ran = afm("check", "--policy", policy)
    missing = policy.with_name("dev-jwks.json")
    assert ran.code == 1
    assert ran.err == (
        f"{policy}:9: keys of https://dev.example: the file {missing} cannot be read: No such file or directory; "
        "write the public keys there, or make them for development: afmiddleware token mint --issuer https://dev.example\n"
    )
    assert afm("token", "mint", "--issuer", "https://dev.example", "--policy", policy).code == 0
    assert afm("check", "--policy", policy).code == 0


def test_what_is_wrong_with_a_token_is_told_to_its_holder(afm, policy):
    token = afm("token", "mint", "--claim", "aud=other", "--policy", policy).out.strip()
    ran = afm("token", "inspect", token, "--policy", policy, "--json")
    assert (ran.code, ran.json["good"], ran.json["reason"]) == (1, False, "InvalidAudienceError")
    assert ran.json["claims"]["aud"] == "other"
    assert token.rpartition(".")[2] not in ran.out
    assert afm("token", "inspect", "nonsense", "--policy", policy).code == 1


def test_an_api_key_is_looked_at_too(afm, policy):
    afm("token", "mint", "--policy", policy)
    key = afm("keys", "new", "acme", "--policy", policy).out.strip()
    ran = afm("token", "inspect", key, "--policy", policy, "--json")
    assert (ran.code, ran.json["actor"]["id"]) == (0, "key:acme")
    assert key[20:] not in ran.out


@pytest.mark.parametrize("by", [["--jti", "t-1"], ["--sub", "alice"], ["--client", "development"]])
def test_a_token_is_taken_back(afm, policy, by):
    token = afm("token", "mint", "--sub", "alice", "--claim", "jti=t-1", "--policy", policy).out.strip()
    issuer = ["--issuer", "https://dev.example"]
    ran = afm("token", "revoke", *issuer, *by, "--reason", "leaked", "--policy", policy)
    assert (ran.code, "are refused from now on" in ran.out) == (0, True)
    inspected = afm("token", "inspect", token, "--policy", policy, "--json")
    assert (inspected.code, inspected.json["reason"]) == (1, "revoked")
    assert by[1] in afm("token", "revocations", "--policy", policy).out
    (listed,) = afm("token", "revocations", "--policy", policy, "--json").json
    assert (listed["kind"], listed["issuer"]) == (by[0][2:], "https://dev.example")


def test_what_cannot_be_taken_back(afm, policy):
    issuer = ["--issuer", "https://dev.example"]
    for wrong in ([], ["--jti", "a", "--sub", "b"], ["--jti", "a", "--issuer", "https://other.example"]):
        assert (
            afm("token", "revoke", *(issuer if wrong != ["--jti", "a"] else []), *wrong, "--policy", policy).code == 2
        )
    assert afm("token", "revoke", "--jti", "a", "--policy", policy).code == 2
