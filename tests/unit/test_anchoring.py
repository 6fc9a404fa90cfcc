"""The mark of a log reaches every place that is named, off the path of requests, and a place that fails is seen."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afmiddleware import ActionEvent, ActionRefused
from afmiddleware.anchoring import AnchorCommand, AnchorLog, AnchorUrl, anchors_of
from afmiddleware.config.load import load
from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.fence import Fence
from afmiddleware.ledger.anchor import AnchorError, AnchorFile
from afmiddleware.ledger.anchors import Anchors
from afmiddleware.ledger.open import open_for_reading
from afmiddleware.receipts.anchor import Anchor
from afmiddleware.receipts.chain import Head
from afmiddleware.receipts.checkpoint import parse

MARK = Anchor("afm-0123456789abcdef", 3, bytes(range(32)), "a note")
POLICY = """version: 1
service: s
ledger: sqlite:///fence.db
rules: {allow: [x.y.z]}
receipts:
  anchor: %s
"""
EVENT = ActionEvent.create(actor="agent-7", resource="x", action="y", environment="z")
SECONDS = 30.0


class Server(ThreadingHTTPServer):
    """Keeps the marks that are sent, and answers with `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/marks"
        self.status = 200
        self.head: dict[str, str] = {}
        self.seen: list[tuple[str, str, Any]] = []
        self.last: Any = {}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, self.headers.get("authorization", ""), body))
        if self.server.status // 100 == 2:
            self.server.last = body
        self._answer(b"{}")

    def do_GET(self) -> None:
        self._answer(json.dumps(self.server.last).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(self.server.status)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **self.server.head,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
        pass


@pytest.fixture
def server() -> Any:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


class Place:
    """A place that fails as often as it is told, and keeps what it is given."""

    readable = False
    name = "test"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.kept: list[Anchor] = []
        self.arrived = threading.Event()
        self.failed = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def put(self, mark: Anchor) -> None:
        assert self.free.wait(SECONDS)
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise AnchorError("as asked")
        self.kept.append(mark)
        self.arrived.set()

    def get(self) -> Anchor | None:
        return None


def head(size: int) -> Head:
    return Head("afm-1", size, bytes(32), 0)


def act(fence: Fence) -> str:
    try:
        with fence.action(EVENT):
            return "done"
    except ActionRefused as refused:
        return refused.verdict.code


def fence_with(folder: Path, anchor: str, **env: str) -> Fence:
    return Fence(load(POLICY % anchor, env=env), base=folder)


def test_a_mark_is_one_line_and_is_read_back() -> None:
    assert Anchor.parse(MARK.text()) == MARK
    assert "\n" not in MARK.text()
    assert Anchor.parse('{"log":"a","size":1,"leaf":"%s"}' % ("0" * 64)).checkpoint == ""


def test_every_place_of_a_policy_has_the_last_mark_when_the_fence_is_closed(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = f"import sys; open({str(tmp_path / 'kept')!r}, 'w').write(sys.stdin.read())"
    command = json.dumps([sys.executable, "-c", keep])
    with caplog.at_level(logging.INFO, "afmiddleware.anchor"):
        fence = fence_with(
            tmp_path,
            f'{{file: far/anchor.json, command: {command}, url: "{server.url}", token: "${{T}}", log: true, stdout: true, every: 60s}}',
            T="s3cret",
        )
        with closing(fence):
            for _ in range(3):
                assert act(fence) == "done"
    with closing(open_for_reading(fence.config, tmp_path)) as reader:
        last = reader.head()
    told = json.loads((tmp_path / "far" / "anchor.json").read_text())
    assert (told["log"], told["size"], told["leaf"]) == (last.log, 6, last.leaf.hex())
    assert parse(told["checkpoint"]).checkpoint.size == 6
    assert json.loads((tmp_path / "kept").read_text()) == told
    assert server.seen[-1] == ("/marks", "Bearer s3cret", told)
    lines = [json.loads(line)["afm_anchor"] for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == told
    records = [vars(one) for one in caplog.records if one.name == "afmiddleware.anchor"]
    assert [records[-1][f"afm.{name}"] for name in ("log", "size", "leaf", "checkpoint")] == [*told.values()]
    assert "s3cret" not in caplog.text


def test_of_the_marks_that_wait_only_the_newest_goes(tmp_path: Path) -> None:
    place = Place()
    place.free.clear()
    anchors = Anchors([place], 0.0)
    for size in range(1, 1001):
        anchors.due(head(size))
    place.free.set()
    anchors.close()
    assert len(place.kept) <= 2
    assert place.kept[-1].size == 1000


def test_a_place_that_fails_is_tried_again_and_seen(caplog: pytest.LogCaptureFixture) -> None:
    place = Place(failures=1)
    anchors = Anchors([place], 0.0)
    anchors.due(head(5))
    assert place.failed.wait(SECONDS)
    assert place.arrived.wait(SECONDS)
    anchors.close()
    (state,) = anchors.states()
    assert (state.size, state.failures, state.error, state.waiting) == (5, 0, "", 0.0)
    assert caplog.text.count("has had no mark of this log since receipt 0: as asked") == 1
    assert "after 1 failures" in caplog.text


def test_what_waits_too_long_stops_admission_only_where_that_is_asked() -> None:
    now = [100.0]
    place = Place(failures=10**9)
    anchors, strict = (
        Anchors([place], 0.0, required=one, patience=60.0, timer=lambda: now[0]) for one in (False, True)
    )
    for one in (anchors, strict):
        one.due(head(1))
        one.gate()
    now[0] += 60.5
    anchors.gate()
    with pytest.raises(LedgerUnavailableError, match=r"not anchored in test for 6\d s"):
        strict.gate()
    anchors.close()
    strict.close()


def test_a_required_anchor_that_fails_refuses_and_admits_again(tmp_path: Path) -> None:
    with closing(fence_with(tmp_path, "{file: far/anchor.json, every: 1s, required: true, patience: 60s}")) as fence:
        (tmp_path / "far").write_text("a file where a folder should be")
        anchors = fence.ledger.anchors
        assert anchors is not None
        assert act(fence) == "done"
        # Nobody waits in a test: the mark of a moment ago is said to be old.
        anchors._patience = -1.0
        assert act(fence) == "ledger.unavailable"
        (tmp_path / "far").unlink()
        deadline = threading.Event()
        while not (tmp_path / "far" / "anchor.json").exists():
            assert not deadline.wait(0.01)
        while anchors.states()[0].waiting:
            assert not deadline.wait(0.01)
        anchors._patience = 60.0
        assert act(fence) == "done"


def test_the_log_of_a_fence_is_checked_against_the_policys_anchor(tmp_path: Path) -> None:
    with closing(fence_with(tmp_path, "{file: far/anchor.json, every: 1s}")) as fence:
        assert [act(fence) for _ in range(2)] == ["done"] * 2
    with closing(fence_with(tmp_path, "{file: far/anchor.json, every: 1s}")) as fence:
        assert fence.receipts.verify().status == "whole"
        place = tmp_path / "far" / "anchor.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | {"size": 99}))
        report = fence.receipts.verify()
        assert (report.status, report.code) == ("tampered", "anchor.behind")


def test_a_failing_anchor_does_not_stop_requests(tmp_path: Path, server: Server) -> None:
    server.status = 500
    with closing(fence_with(tmp_path, f'{{url: "{server.url}", every: 1s}}')) as fence:
        assert [act(fence) for _ in range(3)] == ["done"] * 3


@pytest.mark.parametrize(
    ("status", "more", "said"),
    [
        (500, {}, "answered 500"),
        (302, {"location": "/other"}, "answered 302"),
        (307, {"location": "/other"}, "answered 307"),
    ],
)
def test_only_2xx_has_kept_a_mark_and_no_redirect_is_followed(
    server: Server, status: int, more: dict[str, str], said: str
) -> None:
    server.status, server.head = status, more
    place = AnchorUrl(server.url, "", "token", allow_private=False)
    with pytest.raises(AnchorError, match=said):
        place.put(MARK)
    assert [path for path, _, _ in server.seen] == ["/marks"]


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest",
        "https://10.0.0.1/marks",
        "https://[::ffff:10.0.0.1]/marks",
        "http://10.0.0.1/marks",
    ],
)
def test_a_mark_goes_to_no_private_address(url: str) -> None:
    with pytest.raises(AnchorError):
        AnchorUrl(url, "", "", allow_private=False).put(MARK)


def test_a_place_is_named_without_its_path() -> None:
    assert (
        AnchorUrl("https://marks.example.com/s3cret?k=s3cret", "", "", allow_private=False).name
        == "url marks.example.com"
    )


def test_what_is_read_back_by_get_is_compared_at_the_start(tmp_path: Path, server: Server) -> None:
    anchor = f'{{url: "{server.url}", read_url: "{server.url}", every: 1s}}'
    for _ in range(2):
        with closing(fence_with(tmp_path, anchor)) as fence:
            assert act(fence) == "done"
    assert server.last["size"] == 4
    server.last["size"] = 9
    with pytest.raises(ReceiptError, match=r"url 127.0.0.1:\d+ has seen 9 receipts, the ledger has 4: .* new-epoch"):
        fence_with(tmp_path, anchor)


def test_what_a_command_prints_is_compared_at_the_start(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    put = [sys.executable, "-c", f"import sys; open({str(kept)!r}, 'w').write(sys.stdin.read())"]
    get = [
        sys.executable,
        "-c",
        f"import os; print(open({str(kept)!r}).read() if os.path.exists({str(kept)!r}) else '')",
    ]
    anchor = f"{{command: {json.dumps(put)}, read_command: {json.dumps(get)}, every: 1s}}"
    for _ in range(2):
        with closing(fence_with(tmp_path, anchor)) as fence:
            assert act(fence) == "done"
    kept.write_text(kept.read_text().replace('"size":4', '"size":5'))
    with pytest.raises(ReceiptError, match="has seen 5 receipts, the ledger has 4"):
        fence_with(tmp_path, anchor)


def test_a_place_that_cannot_be_read_stops_the_start_only_where_it_is_required(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.status = 500
    fence_with(tmp_path, f'{{url: "{server.url}", read_url: "{server.url}"}}').close()
    assert "answered 500; the log is not compared with it" in caplog.text
    with pytest.raises(ReceiptError, match="cannot be read: the server answered 500"):
        fence_with(tmp_path, f'{{url: "{server.url}", read_url: "{server.url}", required: true}}')


def test_a_command_that_fails_hangs_or_is_missing_has_not_kept_the_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    for command, said in (
        ([sys.executable, "-c", "import sys; print('s3cret', file=sys.stderr); sys.exit(3)"], "ended with 3"),
        (["/nonexistent/program"], "cannot be started"),
    ):
        with pytest.raises(AnchorError, match=said) as failed:
            AnchorCommand(command, []).put(MARK)
        assert "s3cret" not in str(failed.value)
    with pytest.raises(AnchorError, match="printed more"):
        AnchorCommand([], [sys.executable, "-c", "print('x' * 70000)"]).get()
    with pytest.raises(ReceiptError, match="not an anchor"):
        AnchorCommand([], [sys.executable, "-c", "print('nonsense')"]).get()


def test_a_log_line_that_a_level_filters_out_is_no_anchor() -> None:
    logger = logging.getLogger("afmiddleware.anchor")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with pytest.raises(AnchorError, match="takes no INFO lines"):
            AnchorLog().put(MARK)
    finally:
        logger.setLevel(before)


def test_a_token_comes_from_a_file_too_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two words\n")
    config = load(POLICY % '{url: "https://marks.example.com/a", token: {file: token}}')
    with pytest.raises(ReceiptError) as failed:
        anchors_of(config.receipts, tmp_path)
    assert "two words" not in str(failed.value)
    (tmp_path / "token").write_text("word\n")
    assert anchors_of(config.receipts, tmp_path) is not None


def test_after_a_fork_the_child_anchors_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "anchor.json"
    anchors = Anchors([AnchorFile(file)], 0.0)
    anchors.due(head(1))
    child = os.fork()
    if not child:
        anchors.due(head(2))
        anchors.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    anchors.close()
    mark = AnchorFile(file).get()
    assert mark is not None
    assert mark.size == 2
