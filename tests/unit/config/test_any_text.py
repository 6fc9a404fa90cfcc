"""Any text is a policy or refused in a line that says where, never half read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.config.load import limits_of, load
from afmiddleware.errors import ConfigError

FULL = Path(__file__).with_name("full.yaml").read_text(encoding="utf-8")
ENV = {"AFM_RECEIPT_KEY": "00ff" * 16}
START = "version: 1\nservice: s\n"
NINES = "9" * 5000
"""More digits than Python turns into a number."""
REST = "audience: a, algorithms: [ES256], discovery: oidc"


@pytest.mark.parametrize(
    "text",
    [
        f"version: {NINES}",
        f"assets: {{USDC: {{exponent: {NINES}}}}}",
        f"limits: [{{name: a, rate: {NINES}/day}}]",
        f"limits: [{{name: a, spend: {NINES} USD, window: day}}]",
        f"limits: [{{name: a, spend: 1 USD, window: rolling {NINES}s}}]",
        f"rules: {{allow: [{{capability: a.b, max_amount: {NINES} USD}}]}}",
        f"rules: {{allow: [{{capability: a.b, max_amount: 0.{NINES} USD}}]}}",
        f"rules: {{allow: [{{capability: a.b, when: {{amount: {{gt: {NINES} USD}}}}}}]}}",
        f"rules: {{allow: [{{capability: a.b, when: {{'payload.a[{NINES}]': 1}}}}]}}",
        f"rules: {{allow: [{{capability: {'a.' * 5000}a}}]}}",
        f"routes: [{{route: GET /a, capability: a.b, amount: {{from: 'body.a[{NINES}]'}}}}]",
        f"routes: [{{route: GET /{'{a}' * 5000}, capability: a.b, resource: '{'{path.b}' * 99}'}}]",
        f"receipts: {{anchor: {{file: a, every: {NINES}s}}}}",
        f"timezone: {'A/' * 5000}",
        "timezone: 'Europe\u2044Amsterdam'",
        'timezone: "Europe/Amsterdam\\0"',
        "limits: [{name: a, rate: \u0663/day}]",
        "limits: [{name: a, spend: \uff11 USD, window: day}]",
        "limits: [{name: a, spend: 1\u00a0USD, window: day}]",
        "rules: {allow: [\u0430.b]}",
        "mode: enforce\u200b",
        "ledger: 'sqlite:///a\u202edb'",
        "currency: USD\u0301",
        f"identity: {{jwt: {{issuers: [{{issuer: 'https://[::1', {REST}}}]}}}}",
        f"identity: {{jwt: {{issuers: [{{issuer: 'https://a:99999999', {REST}}}]}}}}",
        f"identity: {{jwt: {{issuers: [{{issuer: 'https://\u2100.com', {REST}}}]}}}}",
    ],
    ids=lambda text: text[:50],
)
def test_numbers_and_characters_of_no_use_are_refused_in_a_line(text):
    head = "service: s\n" if text.startswith("version") else START
    problems = _problems(head + text + "\n")
    assert len(problems) == 1
    assert len(problems[0]) < 400
    assert re.match(r"fence\.yaml:[23]:\d+: ", problems[0])


@given(st.text())
def test_any_text_is_read_or_refused(text):
    _read_or_refused(text)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data):
    _read_or_refused(data)


@given(st.text(alphabet="{}[]:,-?&*!|>'\"%@`#~ \n\tab1$", max_size=60))
def test_any_punctuation_is_read_or_refused(text):
    _read_or_refused(START + text)


@st.composite
def changed(draw):
    """The full example with a few pieces cut out, doubled or replaced."""
    text = FULL
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        piece = draw(
            st.sampled_from(["", text[start:end] * 2, "null", "[]", "{}", "- ", ": ", "\n", "  ", "&a ", "*a", "!t "])
        )
        text = text[:start] + piece + text[end:]
    return text


@given(changed())
def test_a_changed_policy_is_read_or_refused(text):
    _read_or_refused(text)


_VALUES = st.recursive(
    st.sampled_from(["x", "1", "true", "5 USD", "day", "", "a.b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["from", "file", "line", "id"]), inner),
    max_leaves=4,
)


@given(st.data())
def test_a_value_of_any_shape_in_any_place_is_read_or_refused(data):
    document = yaml.load(FULL, yaml.BaseLoader)  # noqa: S506
    here = document
    while True:
        step = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else list(range(len(here)))))
        inner = here[step]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            here[step] = data.draw(_VALUES)
            break
        here = inner
    _read_or_refused(json.dumps(document))


def _read_or_refused(text):
    for problem in _problems(text):
        assert re.match(r"fence\.yaml:[1-9]\d*:[1-9]\d*: ", problem)
        assert "not what is expected here" not in problem


def _problems(text) -> tuple[str, ...]:
    """What is wrong with a text; its limits are made when nothing is."""
    try:
        limits_of(load(text, env=ENV))
    except ConfigError as error:
        return error.problems or ("refused without a word",)
    return ()
