"""Every mistake in a policy file gets one clear sentence, with its line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError

ENV = {"SHORT": "abc"}
START = "version: 1\nservice: s\n"

WHOLE = {
    "empty": ("", ["1:1: the file is empty; start with: version: 1"]),
    "only-comments": ("# nothing\n", ["1:1: the file is empty; start with: version: 1"]),
    "only-null": ("---\n~\n", ["1:1: the file is empty; start with: version: 1"]),
    "root-list": ("- a\n- b\n", ["1:1: a policy is a map of keys and values; start with: version: 1"]),
    "root-text": ("hello\n", ["1:1: a policy is a map of keys and values; start with: version: 1"]),
    "root-tag": ("!\n", ["1:1: the tag ! is not accepted; every value is read as text"]),
    "root-tagged-map": (
        "!x {version: 1}\n",
        ["1:1: the key 'service' is missing; add it", "1:1: the tag !x is not accepted; every value is read as text"],
    ),
    "bom": ("\ufeffversion: 1\n", ["1:1: the file starts with a byte order mark; save it as UTF-8 without one"]),
    "control-character": (
        "version: 1\nservice: a\u0007b\n",
        ["2:11: the character U+0007 may not stand here; remove it"],
    ),
    "lone-surrogate": ("version: 1\nservice: a\ud800\n", ["2:11: the text is not UTF-8; save the file as UTF-8"]),
    "escaped-surrogate": (
        'version: 1\nservice: "a\\uD800"\n',
        ["2:10: the text holds half a character (a lone surrogate); write the character"],
    ),
    "no-such-character": (
        'version: 1\nservice: "a\\U00110000"\n',
        ["2:14: this is not YAML: there is no such character, the last is \\U0010FFFF; correct it"],
    ),
    "no-such-character-by-far": (
        'version: 1\nservice: s\nmetadata: {a: "\\UFFFFFFFF"}\n',
        ["3:18: this is not YAML: there is no such character, the last is \\U0010FFFF; correct it"],
    ),
    "a-version-of-yaml-without-end": (
        f"%YAML 1.{'1' * 5000}\n---\nversion: 1\nservice: s\n",
        ["1:9: this is not YAML: the number that begins here is too long; shorten it"],
    ),
    "exclaimed": (
        "version: 1\nservice: !a%FF\n",
        ["2:12: this is not YAML: an exclamation mark stands before a text without quotes; put the text in quotes"],
    ),
    "tab-indent": (
        "version: 1\nidentity:\n\tproxy: {mode: direct}\n",
        ["3:1: this is not YAML: a tab cannot stand here; indent with spaces"],
    ),
    "unclosed": (
        "version: 1\nservice: {a\n",
        ["3:1: this is not YAML: while parsing a flow mapping: expected ',' or '}', but got '<stream end>'"],
    ),
    "memory-colon": (
        "version: 1\nservice: s\nledger: memory:\n",
        ["3:15: this is not YAML: the colon after memory has no quotes around it; write ledger: memory"],
    ),
    "two-documents": (
        "version: 1\nservice: s\n---\nversion: 1\n",
        ["3:1: a second document begins here; a policy is one document"],
    ),
    "no-service": ("version: 1\n", ["1:1: the key 'service' is missing; add it"]),
    "no-version": ("service: s\n", ["1:1: the key 'version' is missing; add it"]),
    "version-2": (
        "version: 2\nservice: s\n",
        ["1:10: version: 2 is newer than this afmiddleware, which reads version 1; install a newer afmiddleware"],
    ),
    "version-text": ("version: one\nservice: s\n", ["1:10: version: 'one' is not a version of policy files; write 1"]),
    "version-0x1": ("version: 0x1\nservice: s\n", ["1:10: version: '0x1' is not a version of policy files; write 1"]),
}
"""A file, and what is said of it."""


def added():
    """The cases of mistakes.txt: an id, what is added to a file that is right, and what is said of it."""
    text = Path(__file__).with_name("mistakes.txt").read_text(encoding="utf-8")
    for case in text.split("\n=== ")[1:]:
        name, _, rest = case.partition("\n")
        entry, _, said = rest.partition("\n---\n")
        yield pytest.param(entry + "\n", said.rstrip("\n").split("\n"), id=name)


@pytest.mark.parametrize(("text", "said"), [pytest.param(*row, id=name) for name, row in WHOLE.items()])
def test_a_file_that_is_wrong_is_told_where_and_why(text, said):
    assert problems(text) == said


@pytest.mark.parametrize(("text", "said"), list(added()))
def test_an_entry_that_is_wrong_is_told_where_and_why(text, said):
    assert problems(START + text) == said


def test_what_the_entries_are_added_to_is_right():
    assert load(START).service == "s"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, env=ENV)
    assert all(one.startswith("fence.yaml:") for one in caught.value.problems)
    return [one.removeprefix("fence.yaml:") for one in caught.value.problems]
