"""Which row a limit counts in."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.limits.keys import named_key, row_key, values_of
from afmiddleware.model import ActionEvent, Actor
from afmiddleware.model.limit import KEYS
from afmiddleware.model.tier import Tier

ACTOR = Actor(id="key:acct_1", tier=Tier.TOKEN, account="acct_1", on_behalf_of="user:ann", tenant="acme", session="s1")
BARE = Actor(id="address:192.0.2.1/32")
EVENT = ActionEvent(capability="a.b", actor=ACTOR, recipient="bob", category="travel", network="eip155:1")
TEXT = st.text(st.sampled_from("a:=?+1 0"), max_size=6)


def key(per: str, actor: Actor = ACTOR, event: ActionEvent | None = EVENT, address: str = "198.51.100.0/32") -> str:
    return row_key(per, actor, "a.b", event, lambda: address)


def test_each_key_has_rows_of_its_own() -> None:
    names = [*KEYS, *("+".join(sorted(pair)) for pair in combinations(KEYS[:-1], 2))]
    assert len({key(per) for per in names}) == len(names)
    assert (key("global"), key("actor")) == ("global", "actor:key:acct_1")
    assert key("principal") == "principal:8=user:ann"


@pytest.mark.parametrize("per", ["principal", "tenant", "session", "address", "recipient", "category", "network"])
def test_what_is_absent_is_counted_per_actor_and_never_shared(per: str) -> None:
    one, other = (key(per, Actor(id=f"address:{n}"), None, "") for n in "12")
    assert one != other
    assert one == key(per, Actor(id="address:1"), None, "")
    there = Actor(id="address:1", on_behalf_of="address:1", tenant="address:1", session="address:1")
    assert one != key(per, there, EVENT, "address:1")


def test_a_session_belongs_to_its_caller() -> None:
    assert key("session", Actor(id="a", session="x")) != key("session", Actor(id="b", session="x"))


@given(TEXT, TEXT, TEXT, TEXT)
def test_no_two_lists_of_values_share_a_row(one: str, two: str, three: str, four: str) -> None:
    def of(recipient: str, category: str) -> str:
        return key(
            "category+recipient",
            event=ActionEvent(capability="a.b", actor=ACTOR, recipient=recipient, category=category),
        )

    assert (of(one, two) == of(three, four)) == ((one, two) == (three, four))


@given(
    values=st.tuples(TEXT, TEXT, TEXT, TEXT),
    actor=st.text(st.sampled_from("a:=?+1 0"), min_size=1, max_size=6),
    per=st.sampled_from(
        ["global", "actor", "tenant", "recipient+tenant", "actor+category", "network+recipient+tenant"]
    ),
)
def test_a_key_tells_what_it_was_made_of(values: tuple[str, str, str, str], actor: str, per: str) -> None:
    tenant, recipient, category, network = values
    event = ActionEvent(capability="a.b", actor=ACTOR, recipient=recipient, category=category, network=network)
    made = key(per, Actor(id=actor, tenant=tenant), event)
    told = values_of(made, per)
    assert told is not None
    named, whose = told
    said = {"actor": actor, "tenant": tenant, "recipient": recipient, "category": category, "network": network}
    assert named == {name: said[name] for name in per.split("+") if said.get(name)}
    assert named_key(per, named, whose) == made


@pytest.mark.parametrize(
    "text", ["", "tenant", "tenant:", "tenant:4=acm", "tenant:4=acme:", "tenant+x:4=acme", "x", "9=a"]
)
def test_a_key_of_another_kind_tells_nothing(text: str) -> None:
    assert values_of(text, "tenant") is None
    assert values_of(text, "actor") is None
    assert values_of(text, "global") is None


def test_whose_counter_it_is_has_to_be_said() -> None:
    for per in ("actor", "tenant", "actor+recipient"):
        with pytest.raises(ValueError, match="whose counter"):
            named_key(per, {})
