"""Whatever is handed to an import becomes a policy that loads, or a sentence; never half of one."""

from __future__ import annotations

import contextlib
import copy
import random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.cli.convert import from_actionfence
from afmiddleware.cli.convert_capfence import from_capfence
from afmiddleware.cli.convert_t402 import from_t402
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from tests.unit.cli.test_import_capfence import TABLES
from tests.unit.cli.test_import_t402 import WHOLE
from tests.unit.cli.test_imports import CAP, GUARD

FULL = {
    "name": "Agents",
    "limits": WHOLE["limits"],
    "rules": {
        "time": WHOLE["timeRules"],
        "merchant": WHOLE["merchantRules"],
        "custom": [{"id": "c", "expression": "x"}],
    },
    "approval": WHOLE["approvalConfig"],
}
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    10**30,
    "",
    "x",
    "*",
    "5 USD",
    "\x00",
    [],
    ["a"],
    [[]],
    {},
    {"a": {}},
    [{"capability": "a"}],
]
DOCUMENTS = [
    *((from_actionfence, one) for one in (GUARD,)),
    *((from_capfence, yaml.safe_load(one)) for one in (CAP, *(table["policy"] for table in TABLES))),
    *((from_t402, one) for one in (WHOLE, FULL)),
]


def test_a_name_with_a_line_end_stays_in_its_comment() -> None:
    name = "a*\nmode: observe\n"
    rule = {"allowed": True, "schema_hash": "x", "requires_human_approval": True}
    free = {"a_mode_observe_x\nmode: observe": {"allowed": True}}
    guard = from_actionfence({"service": "s", "version": "1", "actions": {name: rule, "a_*": rule} | free})
    cap = from_capfence({"allow": ["pa*\nmode: observe"], "deny": ["a"]})
    for text in (guard, cap):
        assert "mode: observe" in text
        assert load(text).mode == "enforce"


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key of it."""
    found = []
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


@pytest.mark.parametrize(("convert", "document"), DOCUMENTS)
@given(draw=st.randoms(use_true_random=False))
def test_any_change_of_a_policy_is_converted_or_refused(convert: Any, document: Any, draw: random.Random) -> None:
    changed = copy.deepcopy(document)
    changed.pop("extends", None)
    for _ in range(draw.choice([1, 1, 2])):
        found = places(changed)
        if not found:
            break
        holder, key = draw.choice(found)
        if isinstance(holder, dict) and draw.random() < 0.3:
            holder[draw.choice(["x", "capability", "allowed", "value"])] = copy.deepcopy(draw.choice(VALUES))
        else:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    try:
        text = convert(changed)
    except ConfigError:
        return
    # What our own language refuses is refused whole, as the command does it.
    with contextlib.suppress(ConfigError):
        load(text)
