"""Lists in files of their own: read as they stand, and part of the policy's digest."""

from __future__ import annotations

import pytest

from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.model.action import ActionEvent

TEXT = """version: 1
service: s
ledger: memory
lists:
  banned: {file: banned.txt, normalize: lower}
rules:
  deny: [{capability: pay.out, when: {recipient: {in: $banned}}}]
  allow: [pay.out]
"""


def decide(fence: Fence, recipient: str) -> str:
    return fence.decide(ActionEvent.create(actor="a", resource="pay", action="out", recipient=recipient)).code


def made(tmp_path, content: bytes) -> Fence:
    (tmp_path / "banned.txt").write_bytes(content)
    return Fence(load(TEXT), base=tmp_path)


def test_a_file_holds_one_entry_a_line(tmp_path):
    fence = made(tmp_path, b"\xef\xbb\xbf# who\r\nEvil Corp\r\n\r\n  mallory  \n")
    assert decide(fence, "evil corp") == "policy.denied"
    assert decide(fence, "mallory") == "policy.denied"
    assert decide(fence, "# who") == "policy.allowed"
    fence.close()


def test_a_changed_list_is_another_policy(tmp_path):
    digests = []
    for content in (b"a\n", b"a\nb\n", b"a\n"):
        fence = made(tmp_path, content)
        digests.append(fence.plan.digest)
        fence.close()
    assert digests[0] == digests[2] != digests[1]
    assert digests[0] != load(TEXT).digest


@pytest.mark.parametrize(
    ("content", "normalize", "said"),
    [
        (None, "lower", "fence.yaml:5: the list banned: its file banned.txt cannot be read: No such file or directory"),
        (b"\xff", "lower", "fence.yaml:5: the list banned: its file banned.txt is not UTF-8"),
        (b"x.eth", "evm", "fence.yaml:5: the list banned: 'x.eth' is not an address of the form 0x and 40"),
    ],
)
def test_a_file_that_is_wrong_stops_the_start(tmp_path, content, normalize, said):
    if content is not None:
        (tmp_path / "banned.txt").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Fence(load(TEXT.replace("lower", normalize)), base=tmp_path)
    assert [problem.startswith(said) for problem in caught.value.problems] == [True]
