"""A log where nothing can be written: it is read and checked there, and nothing is admitted."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry, sqlite
from tests.ledger.test_faults import acknowledged, mounted, whole

READ_BY_NOBODY = """
    import os, sys
    from pathlib import Path
    from afmiddleware.errors import LedgerError
    from afmiddleware.ledger.log import ReceiptLog
    from afmiddleware.ledger.sqlite import SqliteReader
    from afmiddleware.ledger.sqlite_file import Location
    from tests.ledger.conftest import entry, sqlite
    from afmiddleware.testing import FrozenClock
    os.setgid(65534); os.setuid(65534)
    try:
        report = ReceiptLog(SqliteReader(Location.of(Path(sys.argv[1]) / "fence.db"))).verify()
        print(report.code or report.checked)
    except LedgerError as error:
        print(error)
    try:
        sqlite(Path(sys.argv[1]), FrozenClock()).commit(entry("d1"))
        print("ran")
    except LedgerError as error:
        print("refused")
"""


def read_by_nobody(place: Path, file: int, folder: int) -> list[str]:
    """What a user says who may read and write a log with these modes: what it finds there, and whether it commits."""
    if os.getuid() != 0:
        pytest.skip("only root becomes another user")
    for one in (place.parent, *place.parent.parents):
        if one.stat().st_uid == 0 and one != Path("/"):
            one.chmod(one.stat().st_mode | 0o005)
    os.chown(place, 65534, 65534)
    for one in place.iterdir():
        os.chown(one, 65534, 65534)
        one.chmod(file)
    place.chmod(folder)
    command = [sys.executable, "-c", textwrap.dedent(READ_BY_NOBODY), str(place)]
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    return ran.stdout.splitlines()


@pytest.mark.parametrize("modes", [(0o444, 0o555), (0o644, 0o555), (0o444, 0o755)], ids=["both", "folder", "file"])
def test_a_place_that_cannot_be_written_is_read_and_starts_nothing(tmp_path: Path, modes: tuple[int, int]) -> None:
    place = tmp_path / "log"
    place.mkdir()
    acknowledged(place, "d0")
    before = {one.name: one.read_bytes() for one in place.iterdir()}
    assert read_by_nobody(place, *modes) == ["1", "refused"]
    assert before.items() <= {one.name: one.read_bytes() for one in place.iterdir()}.items()


def test_a_copy_whose_last_commits_cannot_be_read_is_not_read_without_them(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "log"
    source.mkdir()
    place.mkdir()
    with closing(sqlite(source, FrozenClock())) as ledger:
        ledger.commit(entry("d0"))
        for name in ("fence.db", "fence.db-wal", "fence.db.signing.pem"):
            (place / name).write_bytes((source / name).read_bytes())
    found, refused = read_by_nobody(place, 0o444, 0o555)
    assert "copy fence.db and fence.db-wal together" in found
    assert refused == "refused"


def test_a_disk_that_becomes_read_only_refuses_until_it_can_be_written_again(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=4m") as disk:
        assert acknowledged(disk, "d0") == [1]
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert whole(disk) == 1
        with pytest.raises(LedgerUnavailableError, match="cannot be opened"):
            acknowledged(disk, "d1")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert acknowledged(disk, "d2") == [2]
